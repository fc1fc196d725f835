// Changes of an inode's block map: map, overwrite, truncate, reclaim.
//
// A change first writes the new runs and counts their slots live, then uncounts what they
// displaced: a stripe that both loses and gains slots is never dropped in between.
#include "daemon/records/block_map.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <vector>

#include "common/proto/file_time.h"
#include "common/stripe/stripe_layout.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/inline_blocks.h"
#include "daemon/records/inode_acls.h"
#include "daemon/records/namespace_ops.h"
#include "daemon/records/namespace_records.h"
#include "daemon/records/reservations.h"
#include "daemon/records/run_ranges.h"
#include "daemon/records/stripe_records.h"
#include "daemon/records/trees.h"

namespace datacloud {
namespace {

using run_ranges::clip;
using run_ranges::end_of;
using run_ranges::overlapping;
using stripes::ErasedReference;
using stripes::owner_of;
using stripes::SlotRange;

constexpr uint64_t kFileBytesMax = INT64_MAX;
// Of an inode that goes, at a time.
constexpr uint32_t kXattrsPerStep = 1024;
constexpr size_t kXattrBytesPerStep = 1u << 20;

Error invalid_update(InodeId ino, const std::string& what) {
  return Error(Errc::invalid, "update of inode " + std::to_string(ino) + ": " + what);
}

SlotRange slots_of(const pb::Run& run) { return {run.stripe(), run.first_slot(), run.count()}; }

// Whether inline bytes and patches of what is cut may go: new contents or none come instead.
enum class Loss { meant, refused };

// One inode's map while it is changed.
class MapChange {
 public:
  MapChange(Transaction& txn, pb::Inode& inode, Totals& totals, const reservations::Held& held)
      : txn_(txn), inode_(inode), totals_(totals), held_(held) {}

  // Takes [first, end) out of the runs that overlap it, at most runs_max of them; what remains of
  // these stays; whose the slots were is remembered for folds when asked. The slots are counted
  // dead by finish(). Inline bytes and patches go with their run. Returns the end of the last run
  // cut.
  result<uint64_t> cut(uint64_t first, uint64_t end, size_t runs_max, bool remember = false,
                       Loss loss = Loss::meant) {
    if (inode_.blocks_mapped() == 0) return first;
    TRY(const auto runs, overlapping(txn_, inode_.ino(), first, end, runs_max));
    for (const auto& run : runs) {
      txn_.erase(key::run(inode_.ino(), run.first_block()));
      ErasedReference reference;
      if (inline_blocks::has_records(run)) {
        if (loss == Loss::refused) return failure(would_lose(run));
        TRY(inline_blocks::erase_records(txn_, inode_.ino(), run));
      }
      if (names_slots(run)) {
        TRY(reference, stripes::erase_reference(txn_, inode_.ino(), run));
      }
      if (run.first_block() < first) {
        TRY(keep(clip(run, 0, first), reference));
      }
      if (end_of(run) > end) {
        TRY(keep(clip(run, end, UINT64_MAX), reference));
      }
      pb::Run part = clip(run, first, end);
      inode_.set_blocks_mapped(inode_.blocks_mapped() - part.count());
      held_.unmapped(inode_, part.first_block(), end_of(part));
      if (names_slots(run)) dead_.push_back({std::move(part), reference.shared, remember});
    }
    return runs.empty() ? first : end_of(runs.back());
  }

  result<void> map(const pb::Run& run, Displaced displaced, SlotUse use) {
    const bool superseded = displaced == Displaced::superseded;
    TRY(cut(run.first_block(), end_of(run), SIZE_MAX, superseded,
            superseded ? Loss::meant : Loss::refused));
    if (names_slots(run)) {
      TRY(stripes::map_slots(txn_, inode_.ino(), run, use, totals_));
    }
    put_run(run);
    return success();
  }

  // A run of slots that have a user, where cut() has made room.
  result<void> share(const pb::Run& run) {
    if (names_slots(run)) {
      TRY(stripes::map_slots(txn_, inode_.ino(), run, SlotUse::cloned, totals_));
    }
    put_run(run);
    return success();
  }

  result<void> finish() {
    std::map<StripeId, std::vector<const Dead*>> shared;
    for (const auto& dead : dead_) {
      if (dead.shared) shared[dead.run.stripe()];
    }
    for (const auto& dead : dead_) {
      const auto it = shared.find(dead.run.stripe());
      if (it != shared.end()) {
        it->second.push_back(&dead);
        continue;
      }
      if (dead.remember) {
        stripes::remember_former(txn_, slots_of(dead.run), owner_of(inode_.ino(), dead.run));
      }
      TRY(stripes::unmap_slots(txn_, slots_of(dead.run), totals_));
    }
    for (const auto& [stripe, parts] : shared) {
      TRY(finish_shared(stripe, parts));
    }
    dead_.clear();
    return success();
  }

 private:
  void put_run(const pb::Run& run) {
    txn_.put(key::run(inode_.ino(), run.first_block()), run);
    inode_.set_blocks_mapped(inode_.blocks_mapped() + run.count());
    held_.mapped(inode_, run.first_block(), end_of(run));
  }

  // Who moves slots must have left this block out: its patches would not open any more.
  Error would_lose(const pb::Run& run) const {
    return Error(Errc::corrupt, "block " + std::to_string(run.first_block()) + " of inode " +
                                    std::to_string(inode_.ino()) +
                                    " has inline bytes or patches and cannot be moved");
  }

  struct Dead {
    pb::Run run;
    bool shared = false;  // its slots may have other users
    bool remember = false;
  };

  result<void> keep(const pb::Run& run, const ErasedReference& reference) {
    txn_.put(key::run(inode_.ino(), run.first_block()), run);
    if (!names_slots(run)) return success();
    return stripes::keep_reference(txn_, inode_.ino(), run, reference);
  }

  // Which slots died is told by the references that are left: counting would miss what the same
  // change has mapped again.
  result<void> finish_shared(StripeId stripe, const std::vector<const Dead*>& parts) {
    uint64_t end = 0;
    for (const Dead* part : parts) {
      end = std::max(end, uint64_t{part->run.first_slot()} + part->run.count());
    }
    TRY(auto used, stripes::covered_slots(txn_, stripe, 0, end, true));
    for (const Dead* part : parts) {
      const auto& run = part->run;
      for (uint64_t block = run.first_block(); block < end_of(run); ++block) {
        const uint64_t slot = run.first_slot() + (block - run.first_block());
        if (used[slot]) continue;
        used[slot] = true;  // the file may have used it twice
        if (!part->remember) continue;
        const pb::Run dead = clip(run, block, block + 1);
        stripes::remember_former(txn_, slots_of(dead), owner_of(inode_.ino(), dead));
      }
    }
    return stripes::recount_slots(txn_, stripe, totals_);
  }

  Transaction& txn_;
  pb::Inode& inode_;
  Totals& totals_;
  const reservations::Held& held_;
  std::vector<Dead> dead_;
};

// Of the cloud and of the inode's tree, once the totals hold all else of the change.
result<void> count_logical(Transaction& txn, const pb::Inode& inode, uint64_t before,
                           Totals& totals) {
  TRY(const uint64_t after, logical_bytes(txn, inode));
  totals.blocks_logical_bytes += after - before;
  return trees::count(txn, inode.tree(), 0, after - before);
}

result<void> check_update(const pb::Inode& inode, const pb::InodeUpdate& update) {
  const InodeId ino = update.ino();
  if (!S_ISREG(inode.mode())) return failure(invalid_update(ino, "it is not a regular file"));
  const uint64_t block = inode.policy().block_bytes();
  if (block == 0) return failure(Errc::corrupt, "inode " + std::to_string(ino) + " has no policy");
  if (update.truncate_to() > kFileBytesMax || update.grow_to() > kFileBytesMax) {
    return failure(Error::posix(EFBIG, "inode " + std::to_string(ino)));
  }
  const uint64_t blocks_max = kFileBytesMax / block + 1;
  for (const auto& run : update.runs()) {
    if (run.count() == 0 || run.count() > kStripeSlotsMax) {
      return failure(invalid_update(ino, "a run of " + std::to_string(run.count()) + " blocks"));
    }
    if (run.first_block() > blocks_max - run.count()) {
      return failure(Error::posix(EFBIG, "inode " + std::to_string(ino)));
    }
    if (run.version() > UINT64_MAX - run.count()) {
      return failure(invalid_update(ino, "content versions beyond 2^64"));
    }
    if (run.patches() > 0 || inline_blocks::malformed(run) != nullptr ||
        (run.inline_() && names_slots(run))) {
      return failure(invalid_update(ino, "a run with patches, or that is inline and in a stripe"));
    }
  }
  for (const auto* ranges : {&update.reserve(), &update.unreserve()}) {
    for (const auto& range : *ranges) {
      if (range.count() > blocks_max || range.first() > blocks_max - range.count()) {
        return failure(Error::posix(EFBIG, "inode " + std::to_string(ino)));
      }
    }
  }
  for (const auto& clone : update.clones()) {
    if (clone.blocks() > blocks_max || clone.to_block() > blocks_max - clone.blocks() ||
        clone.from_block() > blocks_max - clone.blocks()) {
      return failure(Error::posix(EFBIG, "inode " + std::to_string(ino)));
    }
  }
  return success();
}

void apply_attributes(const pb::InodeUpdate& update, pb::Inode& inode) {
  if (update.has_grow_to()) inode.set_size(std::max(inode.size(), update.grow_to()));
  take_mtime(update, inode);
  if (update.has_ctime_ns()) set_ctime(inode, from_ns(update.ctime_ns()));
  if (update.has_mode()) inode.set_mode((inode.mode() & S_IFMT) | (update.mode() & 07777));
}

// Below this block an orphan has been reclaimed already. Kept in its orphan record, because LevelDB
// would otherwise walk over all the deleted runs again at every step.
result<uint64_t> reclaimed_until(const Transaction& txn, InodeId ino) {
  TRY(const auto value, txn.get(key::orphan(ino)));
  return value && value->size() == 8 ? key::u64_at(*value, 0) : uint64_t{0};
}

// A run of the source as one of the target.
pb::Run cloned(const pb::Inode& source, const pb::Run& run, const CloneRange& range) {
  pb::Run out = run;
  out.set_first_block(range.target_block + (run.first_block() - range.first_block));
  if (is_lost(run)) return out;
  if (!run.has_sealed_for()) {
    auto& sealed = *out.mutable_sealed_for();
    sealed.set_realm(source.realm());
    sealed.set_ino(source.ino());
    sealed.set_first_block(run.first_block());
  }
  const auto& sealed = out.sealed_for();
  if (sealed.realm() == source.realm() && sealed.ino() == range.target &&
      sealed.first_block() == out.first_block()) {
    out.clear_sealed_for();  // it has come home
  }
  return out;
}

// Blocks of the source take the place of what the change's inode has there. All slots of the source
// have a user, itself, until the change is finished.
result<void> share_range(const Transaction& txn, MapChange& change, const pb::Inode& source,
                         const CloneRange& range) {
  const uint64_t end = range.first_block + range.count;
  TRY(const auto runs, overlapping(txn, source.ino(), range.first_block, end, SIZE_MAX));
  for (const auto& run : runs) {
    if (!inline_blocks::has_records(run)) continue;
    return failure(Errc::no_space, "block " + std::to_string(run.first_block()) + " of inode " +
                                       std::to_string(source.ino()) +
                                       " has inline bytes or patches: copy the data");
  }
  TRY(change.cut(range.target_block, range.target_block + range.count, SIZE_MAX));
  for (const auto& run : runs) {
    TRY(change.share(cloned(source, clip(run, range.first_block, end), range)));
  }
  return success();
}

}  // namespace

result<uint64_t> logical_bytes(const Transaction& txn, const pb::Inode& inode) {
  const uint64_t block = inode.policy().block_bytes();
  const uint64_t whole = inode.blocks_mapped() * block;
  if (whole == 0 || inode.size() % block == 0) return whole;
  const uint64_t last_block = inode.size() / block;
  TRY(const auto runs, overlapping(txn, inode.ino(), last_block, last_block + 1, 1));
  return runs.empty() ? whole : whole - (block - inode.size() % block);
}

bool may_follow(const pb::Inode& inode, const pb::InodeUpdate& update) {
  const auto& follows = update.follows();
  return follows.empty() || inode.change_id() == update.change_id() ||
         std::find(follows.begin(), follows.end(), inode.change_id()) != follows.end();
}

result<pb::Inode> update_inode(Transaction& txn, const pb::InodeUpdate& update, Displaced displaced,
                               SlotUse use) {
  TRY(auto inode, get_inode(txn, update.ino()));
  TRY(check_update(inode, update));
  TRY(auto totals, read_totals(txn));
  TRY(const uint64_t logical_before, logical_bytes(txn, inode));
  TRY(auto held, reservations::Held::of(txn, inode));
  MapChange change(txn, inode, totals, held);
  if (update.has_truncate_to()) {
    const uint64_t block = inode.policy().block_bytes();
    const uint64_t kept = update.truncate_to() / block + (update.truncate_to() % block != 0);
    TRY(change.cut(kept, UINT64_MAX, SIZE_MAX));
    held.remove(inode, kept, UINT64_MAX);
    inode.set_size(update.truncate_to());
  }
  for (const auto& clone : update.clones()) {
    TRY(const auto source, get_inode(txn, clone.from_ino()));
    TRY(share_range(txn, change, source,
                    {.source = source.ino(),
                     .target = inode.ino(),
                     .first_block = clone.from_block(),
                     .target_block = clone.to_block(),
                     .count = clone.blocks()}));
  }
  for (const auto& run : update.runs()) {
    TRY(change.map(run, displaced, use));
  }
  for (const auto& range : update.unreserve()) {
    const uint64_t end = range.first() + range.count();
    TRY(change.cut(range.first(), end, SIZE_MAX));
    held.remove(inode, range.first(), end);
  }
  for (const auto& range : update.reserve()) {
    TRY(held.add(txn, inode, range.first(), range.first() + range.count()));
  }
  TRY(change.finish());
  TRY(held.save(txn, inode));
  apply_attributes(update, inode);
  if (update.has_mode()) {
    TRY(acls::follow_mode(txn, inode));
  }
  if (displaced == Displaced::superseded) {
    inode.set_change_id(update.change_id() ? update.change_id() : inode.change_id() + 1);
  }
  TRY(count_logical(txn, inode, logical_before, totals));
  write_totals(txn, totals);
  txn.put(key::inode(inode.ino()), inode);
  return inode;
}

namespace {

result<void> check_clone(const pb::Inode& source, const pb::Inode& target,
                         const CloneRange& range) {
  const std::string what =
      "cloning inode " + std::to_string(source.ino()) + " to inode " + std::to_string(target.ino());
  if (!S_ISREG(source.mode()) || !S_ISREG(target.mode())) {
    return failure(Errc::invalid, what + ": only regular files have blocks");
  }
  const uint64_t block = target.policy().block_bytes();
  if (block == 0 || block != source.policy().block_bytes()) {
    return failure(Errc::invalid, what + ": their blocks have different sizes");
  }
  if (source.realm() != target.realm()) {
    return failure(Error::posix(EXDEV, what + ": they are in different realms"));
  }
  const uint64_t blocks_max = kFileBytesMax / block + 1;
  if (range.count > blocks_max || range.first_block > blocks_max - range.count ||
      range.target_block > blocks_max - range.count || range.grow_to > kFileBytesMax) {
    return failure(Error::posix(EFBIG, what));
  }
  if (range.source == range.target && range.first_block < range.target_block + range.count &&
      range.target_block < range.first_block + range.count) {
    return failure(Errc::invalid, what + ": the ranges overlap");
  }
  return success();
}

}  // namespace

result<pb::Inode> clone_range(Transaction& txn, const CloneRange& range) {
  TRY(const auto source, get_inode(txn, range.source));
  TRY(auto target, get_inode(txn, range.target));
  TRY(check_clone(source, target, range));
  TRY(auto totals, read_totals(txn));
  TRY(const uint64_t logical_before, logical_bytes(txn, target));
  TRY(auto held, reservations::Held::of(txn, target));
  MapChange change(txn, target, totals, held);
  TRY(share_range(txn, change, source, range));
  TRY(change.finish());
  TRY(held.save(txn, target));
  target.set_size(std::max(target.size(), range.grow_to));
  set_mtime(target, from_ns(range.now_ns));
  set_ctime(target, from_ns(range.now_ns));
  TRY(count_logical(txn, target, logical_before, totals));
  write_totals(txn, totals);
  txn.put(key::inode(target.ino()), target);
  return target;
}

result<bool> reclaim_inode(Transaction& txn, InodeId ino, uint32_t runs_max) {
  pb::Inode inode;
  TRY(const bool found, txn.get(key::inode(ino), inode));
  if (!found) {
    txn.erase(key::orphan(ino));
    return true;
  }
  TRY(names::validate_record(ino, inode));
  if (inode.nlink() > 0) {
    return failure(Errc::invalid, "inode " + std::to_string(ino) + " still has names");
  }
  TRY(auto totals, read_totals(txn));
  TRY(const uint64_t logical_before, logical_bytes(txn, inode));
  inode.set_size(0);
  TRY(auto held, reservations::Held::of(txn, inode));
  held.clear(inode);
  TRY(held.save(txn, inode));
  MapChange change(txn, inode, totals, held);
  TRY(const uint64_t from, reclaimed_until(txn, ino));
  TRY(const uint64_t until, change.cut(from, UINT64_MAX, runs_max));
  TRY(change.finish());
  TRY(count_logical(txn, inode, logical_before, totals));
  const bool unmapped = inode.blocks_mapped() == 0;
  if (!unmapped && until == from) {
    return failure(Errc::corrupt, "inode " + std::to_string(ino) + " counts " +
                                      std::to_string(inode.blocks_mapped()) +
                                      " mapped blocks but has no runs; stop the daemon");
  }
  bool done = false;
  if (unmapped) {
    TRY(done, erase_xattrs(txn, inode, kXattrsPerStep, kXattrBytesPerStep));
  }
  if (done) {
    txn.erase(key::inode(ino));
    txn.erase(key::orphan(ino));
    --totals.inodes;
    TRY(trees::count(txn, inode.tree(), ~uint64_t{0}, 0));
  } else {
    txn.put(key::inode(ino), inode);
    txn.put(key::orphan(ino), key::inode(until).substr(1));
  }
  write_totals(txn, totals);
  return done;
}

}  // namespace datacloud
