// Refusals of clones; see clone_rules.h.
#include "daemon/records/clone_rules.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <map>

#include "common/rpc/clone_limits.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"
#include "daemon/records/namespace_ops.h"
#include "daemon/records/slot_references.h"

namespace datacloud {
namespace {

result<void> check_clone(const pb::InodeUpdate& update, const pb::Clone& clone) {
  const auto bad = [&](const char* what) {
    return failure(Errc::invalid, fmt::format("a clone of inode {} into inode {}: {}",
                                              clone.from_ino(), update.ino(), what));
  };
  if (clone.blocks() == 0) return bad("no blocks");
  const uint64_t last = UINT64_MAX - clone.blocks();
  if (clone.from_block() > last || clone.to_block() > last) return bad("blocks beyond 2^64");
  if (clone.from_ino() != update.ino()) return success();
  if (update.clones_size() > 1 || update.runs_size() > 0 || update.has_truncate_to()) {
    return bad("within one file it has to be the only change of its update");
  }
  if (clone.from_block() < clone.to_block() + clone.blocks() &&
      clone.to_block() < clone.from_block() + clone.blocks()) {
    return bad("the ranges overlap");
  }
  return success();
}

// Both keep their blocks in the same way: what was sealed for one can be read for the other.
bool alike(const pb::Inode& source, const pb::Inode& target) {
  return S_ISREG(source.mode()) && S_ISREG(target.mode()) &&
         source.policy().block_bytes() == target.policy().block_bytes() &&
         source.realm() == target.realm() && source.generation() == target.generation();
}

}  // namespace

result<void> check_clones(const pb::CommitRequest& request) {
  uint64_t blocks = 0;
  int count = 0, updates = 0;
  for (const auto& update : request.updates()) {
    updates += update.clones_size() > 0 ? 1 : 0;
    for (const auto& clone : update.clones()) {
      TRY(check_clone(update, clone));
      blocks += clone.blocks();
      ++count;
    }
  }
  if (updates <= 1 && count <= kClonesMax && blocks <= kCloneBlocksMax) return success();
  return failure(Errc::invalid,
                 fmt::format("{} clones of {} blocks in {} updates of one commit; at most {} of "
                             "{} in one are allowed",
                             count, blocks, updates, kClonesMax, kCloneBlocksMax));
}

result<bool> may_share(const Transaction& txn, const pb::Inode& target,
                       const pb::InodeUpdate& update) {
  size_t runs_seen = 0;
  std::map<StripeId, uint64_t> references;
  for (const auto& clone : update.clones()) {
    const auto source = get_inode(txn, clone.from_ino());
    if (!source) {
      if (source.error().code() == std::errc::no_such_file_or_directory) return false;
      return failure(source.error());
    }
    if (source.value().change_id() != clone.from_change_id()) return false;
    if (!alike(source.value(), target)) return false;
    TRY(const auto runs, runs_of(txn, clone.from_ino(), clone.from_block(), clone.blocks()));
    TRY(const auto displaced, runs_of(txn, target.ino(), clone.to_block(), clone.blocks()));
    runs_seen += runs.size() + displaced.size();
    if (runs_seen > kCloneRunsMax) return false;
    for (const auto& run : runs) {
      if (is_lost(run) || run.inline_() || run.patches() > 0) return false;
      ++references[run.stripe()];
    }
  }
  for (const auto& [stripe, count] : references) {
    pb::StripeLive live;
    TRY(txn.get(key::live(stripe), live));
    if (live.shared() + count > stripes::kSharedReferencesMax) return false;
  }
  return true;
}

}  // namespace datacloud
