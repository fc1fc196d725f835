// Writing a checkpoint: records into pieces, pieces into columns, columns to the sites.
//
// While the columns of one piece are under way the next one is read and sealed; no more than that
// is in memory. A site that fails once gets nothing more of this checkpoint.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/store/object_store.h"
#include "common/stripe/placement.h"
#include "daemon/checkpoint/checkpoint.h"
#include "daemon/checkpoint/checkpoint_columns.h"
#include "daemon/checkpoint/checkpoint_piece.h"
#include "daemon/journal/log_bytes.h"
#include "daemon/journal/log_entry.h"
#include "daemon/metadata/record_keys.h"

namespace datacloud {
namespace {

constexpr char kUndoPrefix = 'u';
constexpr auto kStopLook = milliseconds(50);

// A piece whose columns are being put.
struct PieceUnderWay {
  size_t index = 0;
  std::shared_ptr<const PieceColumns> columns;
  std::vector<SiteId> sites;  // of each column; 0: nowhere
  std::vector<std::future<result<void>>> puts;
};

class CheckpointWriter {
 public:
  CheckpointWriter(const RecordSnapshot& records, const CheckpointPlace& place,
                   const CheckpointWrite& write)
      : records_(records),
        place_(place),
        write_(write),
        code_(*write.code),
        sealer_(place.metadata_key, place.journal, write.number) {}

  result<WrittenCheckpoint> run() {
    TRY(begin());
    TRY(read_records());
    if (under_way_) {
      TRY(settle());
    }
    written_.root.set_records(count_);
    written_.losses_survived = survived_.value_or(0);
    if (written_.root.ByteSizeLong() > kCheckpointRootBytesMax) {
      return failure(Errc::invalid,
                     fmt::format("the metadata is too large for a checkpoint with the code {}: {} "
                                 "pieces; their list would not fit into an entry of the journal",
                                 code_.name(), written_.root.pieces_size()));
    }
    for (const auto& [site, reason] : failed_) {
      const Site* known = place_.sites.find(site);
      written_.problems.push_back(
          fmt::format("site {}: {}", known != nullptr ? known->name() : "?", reason));
    }
    return std::move(written_);
  }

 private:
  result<void> begin() {
    auto& root = written_.root;
    TRY(const auto position, records_.get(key::meta("journal_position")));
    TRY(const auto sequence, records_.get(key::meta("sequence")));
    if (!position || position->size() != journal::kPositionBytes || !sequence ||
        sequence->size() != 8) {
      return failure(Errc::corrupt, "the metadata has no position in the journal");
    }
    root.set_number(write_.number);
    root.set_position(*position);
    root.set_sequence(key::u64_at(*sequence, 0));
    root.set_code(code_.name());
    root.set_made_ns(wall_now_ns());
    started_ = monotonic_now();
    return success();
  }

  result<void> read_records() {
    Bytes plain;
    plain.reserve(kPiecePlainBytesMax);
    const std::string position_key = key::meta("journal_position");  // the root has it
    auto at = records_.scan(std::string(), std::string(256, '\xff'));
    while (at.valid()) {
      if (!at.key().empty() && at.key()[0] == kUndoPrefix) {
        at.seek(std::string(1, kUndoPrefix + 1));
        continue;
      }
      if (at.key() == position_key) {
        at.next();
        continue;
      }
      if (!fits_into_piece(plain, at.key(), at.value())) {
        if (!fits_into_piece({}, at.key(), at.value())) {
          return failure(Errc::invalid, fmt::format("a record of {} bytes is too large for a "
                                                    "checkpoint",
                                                    at.value().size()));
        }
        TRY(put_piece(plain));
        plain.clear();
      }
      append_record(plain, at.key(), at.value());
      ++count_;
      at.next();
    }
    TRY(at.status());
    return plain.empty() ? success() : put_piece(plain);
  }

  result<void> put_piece(ByteView plain) {
    TRY(wait_for_turn(plain.size()));
    const auto index = static_cast<size_t>(written_.root.pieces_size());
    TRY(const Bytes sealed, sealer_.seal(static_cast<uint32_t>(index), plain));
    auto columns = std::make_shared<const PieceColumns>(encode_piece(code_, sealed));
    auto& piece = *written_.root.add_pieces();
    const auto text = [](const journal::ChainHash& hash) {
      return std::string(as_text(ByteView(hash)));
    };
    piece.set_bytes(sealed.size());
    piece.set_hash(text(journal::hash_of(sealed)));
    piece.set_column_bytes(static_cast<uint32_t>(columns->column_bytes));
    for (int c = 0; c < code_.n(); ++c) {
      piece.add_column_hashes(text(journal::hash_of(columns->column(c))));
    }
    if (under_way_) {
      TRY(settle());
    }
    return start(index, std::move(columns));
  }

  // Paces the reading, and looks whether it is to end.
  result<void> wait_for_turn(size_t bytes) {
    const auto due = [&] {
      const double seconds =
          write_.bytes_per_second == 0
              ? 0
              : static_cast<double>(read_) / static_cast<double>(write_.bytes_per_second);
      return started_ +
             std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
    }();
    for (;;) {
      if (place_.stop && place_.stop()) {
        return failure(Errc::unavailable, "the checkpoint was given up: the daemon ends");
      }
      const auto now = monotonic_now();
      if (now >= due) break;
      std::this_thread::sleep_for(std::min<Duration>(due - now, kStopLook));
    }
    read_ += bytes;
    return success();
  }

  std::vector<PlacementSite> places() const {
    std::vector<PlacementSite> places;
    for (const SiteId id : write_.over) {
      const Site* site = place_.sites.find(id);
      places.push_back({id, site != nullptr && site->up() && !failed_.contains(id)});
    }
    return places;
  }

  std::future<result<void>> put(SiteId id, const PieceUnderWay& piece, int column) {
    auto promise = std::make_shared<std::promise<result<void>>>();
    auto future = promise->get_future();
    Payload payload;
    payload.parts.push_back(piece.columns->column(column));
    payload.owner = piece.columns;
    Site* site = place_.sites.find(id);
    if (site == nullptr) {
      promise->set_value(failure(Errc::away, "it has left the cloud"));
      return future;
    }
    site->store().put(column_name(write_.number, piece.index, column), std::move(payload), {},
                      {monotonic_now() + place_.deadline, Purpose::journal},
                      [promise](result<void> done) { promise->set_value(std::move(done)); });
    return future;
  }

  result<void> start(size_t index, std::shared_ptr<const PieceColumns> columns) {
    const auto sites = places();
    for (const auto& site : sites) {
      if (!site.live && !failed_.contains(site.id)) note_away(site.id);
    }
    auto placed = place_columns(code_, sites, index);
    if (!placed) return failure(too_few(index));
    under_way_.emplace();
    under_way_->index = index;
    under_way_->columns = std::move(columns);
    under_way_->sites = placed.value().site_of_column;
    written_.scattered |= placed.value().site_of_column != placed.value().home_of_column;
    for (int c = 0; c < code_.n(); ++c) {
      under_way_->puts.push_back(put(under_way_->sites[static_cast<size_t>(c)], *under_way_, c));
    }
    return success();
  }

  void note_away(SiteId id) {
    const Site* site = place_.sites.find(id);
    std::string reason = site == nullptr ? "it has left the cloud" : site->away_reason();
    failed_.emplace(id, reason.empty() ? "it was away" : std::move(reason));
  }

  // Waits for the columns; those that failed go to other sites as long as there are any.
  result<void> settle() {
    PieceUnderWay piece = std::move(*under_way_);
    under_way_.reset();
    std::vector<int> left;
    for (int c = 0; c < code_.n(); ++c) {
      auto& site = piece.sites[static_cast<size_t>(c)];
      auto done = piece.puts[static_cast<size_t>(c)].get();
      if (!done) {
        failed_.emplace(site, done.error().message());
        site = 0;
        left.push_back(c);
      }
    }
    for (const int c : left) put_elsewhere(piece, c);
    auto& record = *written_.root.mutable_pieces(static_cast<int>(piece.index));
    std::map<SiteId, int> counts;
    ColumnSet present = 0;
    for (int c = 0; c < code_.n(); ++c) {
      const SiteId site = piece.sites[static_cast<size_t>(c)];
      record.add_sites(site);
      if (site == 0) continue;
      present |= ColumnSet{1} << c;
      ++counts[site];
      written_.bytes += piece.columns->column_bytes;
    }
    if (!code_.minimum_to_decode(data_columns(code_), present, {})) {
      return failure(too_few(piece.index));
    }
    std::vector<int> of_sites;
    for (const auto& [site, count] : counts) of_sites.push_back(count);
    const int missing = code_.n() - std::popcount(present);
    const int survived = survived_losses(of_sites, code_.guaranteed_tolerance() - missing);
    survived_ = std::min(survived_.value_or(survived), survived);
    return success();
  }

  void put_elsewhere(PieceUnderWay& piece, int column) {
    written_.scattered = true;
    for (;;) {
      std::map<SiteId, int> counts;
      for (const auto& site : places()) {
        if (site.live) counts[site.id] = 0;
      }
      if (counts.empty()) return;
      for (const SiteId site : piece.sites) {
        if (counts.contains(site)) ++counts[site];
      }
      const auto fewest =
          std::min_element(counts.begin(), counts.end(),
                           [](const auto& a, const auto& b) { return a.second < b.second; });
      auto done = put(fewest->first, piece, column).get();
      if (done) {
        piece.sites[static_cast<size_t>(column)] = fewest->first;
        return;
      }
      failed_.emplace(fewest->first, done.error().message());
    }
  }

  Error too_few(size_t piece) const {
    std::string text = fmt::format("piece {} of the checkpoint found too few sites for the code {}",
                                   piece, code_.name());
    for (const auto& [id, reason] : failed_) {
      const Site* site = place_.sites.find(id);
      text += fmt::format("; {}: {}", site != nullptr ? site->name() : "?", reason);
    }
    return Error(Errc::unavailable, text);
  }

  const RecordSnapshot& records_;
  const CheckpointPlace& place_;
  const CheckpointWrite& write_;
  const ErasureCode& code_;
  PieceSealer sealer_;
  WrittenCheckpoint written_;
  std::optional<PieceUnderWay> under_way_;
  std::map<SiteId, std::string> failed_;  // with the reason
  std::optional<int> survived_;
  uint64_t count_ = 0, read_ = 0;
  MonotonicTime started_{};
};

}  // namespace

result<WrittenCheckpoint> write_checkpoint(const RecordSnapshot& records,
                                           const CheckpointPlace& place,
                                           const CheckpointWrite& write) {
  return CheckpointWriter(records, place, write).run();
}

}  // namespace datacloud
