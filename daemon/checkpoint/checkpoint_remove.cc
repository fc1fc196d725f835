// Removing a checkpoint's objects, site by site (checkpoint.h).
//
// Names are computed, nothing is listed. Where the number of pieces is not known, because the
// writing was cut off, the last one at each site is looked for first, and removal goes from there
// down: what a removal that was cut off leaves is found in the same way by the next one.
#include <fmt/format.h>

#include <algorithm>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/store/object_store.h"
#include "daemon/checkpoint/checkpoint.h"
#include "daemon/checkpoint/checkpoint_columns.h"

namespace datacloud {
namespace {

// Two pieces are under way at most, and a site may have no column of a piece where there are more
// sites than columns.
constexpr size_t kGapMin = 4;

class CheckpointRemover {
 public:
  CheckpointRemover(const pb::CheckpointRecord& record, const CheckpointPlace& place, Site& site)
      : record_(record), place_(place), site_(site) {}

  result<void> run() {
    size_t pieces = record_.pieces();
    if (pieces == 0) {
      TRY(pieces, count_pieces());
    }
    while (pieces > 0) {
      if (place_.stop && place_.stop()) {
        return failure(Errc::unavailable, "told to stop");
      }
      TRY(remove_piece(--pieces));
    }
    return success();
  }

 private:
  // Columns of the piece that may be here.
  std::vector<int> columns(size_t piece) const {
    std::vector<int> columns;
    const auto sites = static_cast<size_t>(std::max(record_.sites_size(), 1));
    for (size_t c = 0; c < record_.columns(); ++c) {
      const bool anywhere = record_.scattered() || record_.pieces() == 0;
      if (anywhere || record_.sites(static_cast<int>((piece + c) % sites)) == site_.id()) {
        columns.push_back(static_cast<int>(c));
      }
    }
    return columns;
  }

  OpOptions options() const { return {monotonic_now() + place_.deadline, Purpose::journal}; }

  result<size_t> count_pieces() {
    const size_t gap_max = kGapMin + static_cast<size_t>(record_.sites_size());
    size_t pieces = 0;
    for (size_t piece = 0; piece < pieces + gap_max; ++piece) {
      std::vector<std::future<result<ReadReply>>> found;
      for (const int c : columns(piece)) {
        auto promise = std::make_shared<std::promise<result<ReadReply>>>();
        found.push_back(promise->get_future());
        site_.store().read(column_name(record_.number(), piece, c), {}, false, options(),
                           [promise](result<ReadReply> r) { promise->set_value(std::move(r)); });
      }
      result<void> failed = success();
      for (auto& one : found) {
        const auto reply = one.get();
        // Damage at the site does not matter, as long as something is there.
        if (reply || reply.error().is(Errc::corrupt)) pieces = piece + 1;
        if (!reply && !reply.error().is(Errc::not_found) && !reply.error().is(Errc::corrupt)) {
          failed = failure(reply.error());
        }
      }
      TRY(failed);
    }
    return pieces;
  }

  result<void> remove_piece(size_t piece) {
    std::vector<std::future<result<void>>> removed;
    for (const int c : columns(piece)) {
      auto promise = std::make_shared<std::promise<result<void>>>();
      removed.push_back(promise->get_future());
      site_.store().remove(column_name(record_.number(), piece, c), options(),
                           [promise](result<void> r) { promise->set_value(std::move(r)); });
    }
    result<void> failed = success();
    for (auto& one : removed) {
      auto done = one.get();
      if (!done && !done.error().is(Errc::not_found)) failed = std::move(done);
    }
    return failed;
  }

  const pb::CheckpointRecord& record_;
  const CheckpointPlace& place_;
  Site& site_;
};

}  // namespace

result<void> remove_checkpoint(const pb::CheckpointRecord& record, const CheckpointPlace& place) {
  result<void> failed = success();
  for (const SiteId id : record.sites()) {
    Site* site = place.sites.find(id);
    if (site == nullptr) continue;  // it has left the cloud
    auto removed = site->up() ? CheckpointRemover(record, place, *site).run()
                              : result<void>(failure(Errc::away, site->away_reason()));
    if (!removed && failed) {
      failed =
          failure(removed.error().in(fmt::format("checkpoint {} cannot be removed from site {}",
                                                 checkpoint_name(record.number()), site->name())));
    }
  }
  return failed;
}

}  // namespace datacloud
