// What block maps say, for mounts and for background work.
#include <algorithm>
#include <set>
#include <utility>

#include "common/rpc/inline_limits.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"
#include "daemon/records/inline_blocks.h"
#include "daemon/records/reservations.h"
#include "daemon/records/run_ranges.h"

namespace datacloud {

using run_ranges::clip;
using run_ranges::overlapping;

result<std::vector<pb::Run>> runs_of(const Transaction& txn, InodeId ino, uint64_t first,
                                     uint64_t blocks) {
  constexpr size_t kRunsMax = 4096;
  const uint64_t end = first > UINT64_MAX - blocks ? UINT64_MAX : first + blocks;
  TRY(auto runs, overlapping(txn, ino, first, end, kRunsMax));
  for (auto& run : runs) run = clip(run, first, end);
  return runs;
}

namespace {

// The sealed bytes of the run's block that lie in the records; how many.
result<uint64_t> add_pieces(const Transaction& txn, InodeId ino, const pb::Run& run,
                            pb::MapReply& reply) {
  TRY(auto records, inline_blocks::read_records(txn, ino, run));
  uint64_t bytes = 0;
  const auto add = [&](ContentVersion version, bool patch, std::string sealed) {
    bytes += sealed.size();
    auto* piece = reply.add_pieces();
    piece->set_ino(ino);
    piece->set_block(run.first_block());
    piece->set_version(version);
    piece->set_patch(patch);
    piece->set_sealed(std::move(sealed));
  };
  if (run.inline_()) add(run.version(), false, std::move(records.block));
  for (auto& patch : records.patches) add(patch.version, true, std::move(patch.sealed));
  return bytes;
}

}  // namespace

result<pb::MapReply> read_map(const Transaction& txn, const pb::MapRequest& request) {
  constexpr size_t kRunsMax = 4096;
  constexpr size_t kReplyBytesMax = 12u << 20;  // below the RPC's frame limit
  pb::MapReply reply;
  TRY(const auto sequence, txn.get(key::meta("sequence")));
  if (sequence && sequence->size() == 8) reply.set_sequence(key::u64_at(*sequence, 0));
  const uint64_t first = request.first_block();
  const uint64_t end =
      first > UINT64_MAX - request.blocks() ? UINT64_MAX : first + request.blocks();
  TRY(const auto runs, overlapping(txn, request.ino(), first, end, kRunsMax));
  std::vector<StripeId> seen;
  uint64_t piece_bytes = 0;
  for (const auto& run : runs) {
    *reply.add_runs() = clip(run, first, end);
    if (names_slots(run)) seen.push_back(run.stripe());
    if (!inline_blocks::has_records(run)) continue;
    TRY(const uint64_t added, add_pieces(txn, request.ino(), run, reply));
    piece_bytes += added;
    if (piece_bytes >= kMapPieceBytes) break;  // the mount asks for the rest
  }
  TRY(const auto reserved, reservations::within(txn, request.ino(), first, end));
  for (const auto& range : reserved) *reply.add_reserved() = range;
  std::sort(seen.begin(), seen.end());
  seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
  size_t bytes = 0;
  for (const StripeId id : seen) {
    TRY(const auto parsed, txn.stripe(key::stripe(id)));
    const auto& stripe = parsed.record;
    if (!stripe) {
      return failure(Errc::corrupt, "inode " + std::to_string(request.ino()) + " names stripe " +
                                        std::to_string(id) + ", which does not exist");
    }
    bytes += stripe->ByteSizeLong();
    if (bytes > kReplyBytesMax) {
      return failure(Errc::invalid, "the map of " + std::to_string(request.blocks()) +
                                        " blocks of inode " + std::to_string(request.ino()) +
                                        " is too large for one reply; ask for fewer");
    }
    *reply.add_stripes() = *stripe;
  }
  return reply;
}

result<StripesOfInode> stripes_of_inode(const Transaction& txn, InodeId ino, size_t count_max,
                                        uint64_t first_block) {
  StripesOfInode found;
  std::set<StripeId> seen;
  bool damaged = false;
  const std::string first = key::run(ino, first_block);
  const std::string end = key::after_prefix(first.substr(0, 9));
  TRY(txn.scan(first, end, [&](std::string_view, std::string_view v) {
    pb::Run run;
    damaged = !run.ParseFromArray(v.data(), static_cast<int>(v.size()));
    if (damaged) return false;
    found.blocks_inline += run.inline_() ? 1 : 0;
    found.blocks_patched += run.patches() > 0 && !run.inline_() ? 1 : 0;
    if (is_lost(run)) {
      found.blocks_lost += run.count();
    } else if (names_slots(run) && !seen.contains(run.stripe())) {
      if (found.ids.size() >= count_max) {
        found.next_block = run.first_block();
        return false;
      }
      seen.insert(run.stripe());
      found.ids.push_back(run.stripe());
    }
    return true;
  }));
  if (damaged) {
    return failure(Errc::corrupt, "block map of inode " + std::to_string(ino) + " does not parse");
  }
  return found;
}

}  // namespace datacloud
