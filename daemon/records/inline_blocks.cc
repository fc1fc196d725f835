#include "daemon/records/inline_blocks.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"
#include "daemon/records/namespace_ops.h"

namespace datacloud::inline_blocks {
namespace {

std::string name_of(InodeId ino, uint64_t block) {
  return fmt::format("block {} of inode {}", block, ino);
}

Error damaged(InodeId ino, uint64_t block, const std::string& what) {
  return Error(Errc::corrupt,
               name_of(ino, block) + " " + what + "; stop the daemon and run `datacloud fsck`");
}

result<void> erase_range(Transaction& txn, const std::string& first, const std::string& end) {
  std::vector<std::string> keys;
  TRY(txn.scan(first, end, [&](std::string_view k, std::string_view) {
    keys.emplace_back(k);
    return true;
  }));
  for (const auto& k : keys) txn.erase(k);
  return success();
}

// The new state of a file whose map is changed otherwise.
result<pb::Inode> finish(Transaction& txn, const NewBytes& bytes, pb::InodeUpdate update) {
  update.set_ino(bytes.ino);
  update.set_change_id(bytes.change_id);
  update.set_grow_to(bytes.grow_to);
  return update_inode(txn, update);
}

// The run of just this block. A longer run is cut around it; the slots stay where they are.
result<pb::Run> isolated(Transaction& txn, InodeId ino, const pb::Run& block) {
  pb::Run stored;
  TRY(const bool found, txn.get(key::run(ino, block.first_block()), stored));
  if (found && stored.count() == 1) return stored;
  pb::InodeUpdate cut;
  cut.set_ino(ino);
  *cut.add_runs() = block;
  TRY(update_inode(txn, cut, Displaced::moved, SlotUse::shared));
  return block;
}

}  // namespace

const char* malformed(const pb::Run& run) {
  if (!has_records(run)) return nullptr;
  if (run.count() != 1) return "has inline bytes or patches, and several blocks";
  if (run.inline_() && run.stripe() == 0 && (run.first_slot() != 0 || run.has_sealed_for()))
    return "is inline, and names a slot or another place";
  if (!run.inline_() && run.stripe() == 0) return "has patches, and nothing they could change";
  return nullptr;
}

bool fits_block(size_t sealed_bytes, uint32_t block_bytes) {
  return sealed_bytes > kSealedOverheadBytes && sealed_bytes <= block_bytes + kSealedOverheadBytes;
}

bool fits_patch(size_t sealed_bytes, uint32_t block_bytes) {
  return sealed_bytes > kSealedPatchOverheadBytes &&
         sealed_bytes <= block_bytes + kSealedPatchOverheadBytes;
}

result<pb::Inode> put_block(Transaction& txn, const NewBytes& bytes) {
  TRY(const auto inode, get_inode(txn, bytes.ino));
  if (!fits_block(bytes.sealed.size(), inode.policy().block_bytes())) {
    return failure(Errc::invalid,
                   fmt::format("{}: {} bytes are no sealed block", name_of(bytes.ino, bytes.block),
                               bytes.sealed.size()));
  }
  pb::InodeUpdate update;
  auto* run = update.add_runs();
  run->set_first_block(bytes.block);
  run->set_count(1);
  run->set_version(bytes.version);
  run->set_inline_(true);
  TRY(auto changed, finish(txn, bytes, std::move(update)));
  txn.put(key::inline_block(bytes.ino, bytes.block), bytes.sealed);
  return changed;
}

result<pb::Inode> put_patch(Transaction& txn, const NewBytes& bytes, uint32_t patches_max) {
  const std::string name = name_of(bytes.ino, bytes.block);
  TRY(const auto inode, get_inode(txn, bytes.ino));
  if (!fits_patch(bytes.sealed.size(), inode.policy().block_bytes())) {
    return failure(Errc::invalid,
                   fmt::format("{}: {} bytes are no sealed patch", name, bytes.sealed.size()));
  }
  TRY(const auto runs, runs_of(txn, bytes.ino, bytes.block, 1));
  if (runs.empty() || is_lost(runs[0])) {
    return failure(Errc::invalid, name + " has no data that a patch could change");
  }
  TRY(const auto records, read_records(txn, bytes.ino, runs[0]));
  if (records.patches.size() >= std::min(patches_max, kBlockPatchesMax)) {
    return failure(Errc::invalid,
                   fmt::format("{} has {} patches, the most there may be: seal the whole block",
                               name, records.patches.size()));
  }
  const ContentVersion newest =
      records.patches.empty() ? runs[0].version() : records.patches.back().version;
  if (bytes.version <= newest) {
    return failure(Errc::invalid,
                   fmt::format("{} has version {}: a patch needs one above it, not {}", name,
                               newest, bytes.version));
  }
  TRY(auto run, isolated(txn, bytes.ino, runs[0]));
  run.set_patches(run.patches() + 1);
  txn.put(key::run(bytes.ino, bytes.block), run);
  txn.put(key::patch(bytes.ino, bytes.block, bytes.version), bytes.sealed);
  return finish(txn, bytes, {});
}

result<BlockRecords> read_records(const Transaction& txn, InodeId ino, const pb::Run& run) {
  BlockRecords out;
  if (!has_records(run)) return out;
  const uint64_t block = run.first_block();
  if (const char* why = malformed(run)) return failure(damaged(ino, block, why));
  if (run.inline_()) {
    TRY(auto bytes, txn.get(key::inline_block(ino, block)));
    if (!bytes) return failure(damaged(ino, block, "is inline, and its bytes are gone"));
    out.block = std::move(*bytes);
  }
  const std::string first = key::patch(ino, block, 0);
  bool whole = true;
  TRY(txn.scan(first, key::after_prefix(first.substr(0, 17)),
               [&](std::string_view k, std::string_view v) {
                 whole = k.size() == 25 && out.patches.size() <= kBlockPatchesMax;
                 if (whole) out.patches.push_back({key::u64_at(k, 17), std::string(v)});
                 return whole;
               }));
  if (!whole || out.patches.size() != run.patches() || run.patches() > kBlockPatchesMax ||
      (!out.patches.empty() && out.patches.front().version <= run.version())) {
    return failure(damaged(
        ino, block,
        fmt::format("has {} patches, and its run counts {}", out.patches.size(), run.patches())));
  }
  return out;
}

result<size_t> move_to_slots(Transaction& txn, InodeId ino, StripeId stripe,
                             const std::vector<BlockInSlot>& blocks) {
  pb::Inode inode;
  TRY(const bool there, txn.get(key::inode(ino), inode));
  if (!there) return size_t{0};
  pb::InodeUpdate update;
  update.set_ino(ino);
  std::vector<std::pair<pb::Run, std::vector<StoredPatch>>> patched;
  for (const auto& block : blocks) {
    pb::Run stored;
    TRY(const bool found, txn.get(key::run(ino, block.block), stored));
    if (!found || !stored.inline_() || stored.version() != block.version) continue;
    auto records = read_records(txn, ino, stored);
    if (!records && records.error().is(Errc::corrupt)) continue;  // fsck tells of it
    if (!records) return failure(records.error());
    auto& run = *update.add_runs();
    run.set_first_block(block.block);
    run.set_count(1);
    run.set_stripe(stripe);
    run.set_first_slot(block.slot);
    run.set_version(block.version);
    if (!records.value().patches.empty())
      patched.emplace_back(run, std::move(records.value().patches));
  }
  if (update.runs().empty()) return size_t{0};
  // As if written anew, which takes the records there are away, but the contents stay the same.
  update.set_change_id(inode.change_id());
  TRY(update_inode(txn, update));
  for (const auto& [mapped, patches] : patched) {
    TRY(auto run, isolated(txn, ino, mapped));
    run.set_patches(static_cast<uint32_t>(patches.size()));
    txn.put(key::run(ino, mapped.first_block()), run);
    for (const auto& patch : patches)
      txn.put(key::patch(ino, mapped.first_block(), patch.version), patch.sealed);
  }
  return static_cast<size_t>(update.runs_size());
}

result<void> erase_records(Transaction& txn, InodeId ino, const pb::Run& run) {
  if (!has_records(run)) return success();
  const uint64_t end = run.first_block() + run.count();
  TRY(erase_range(txn, key::inline_block(ino, run.first_block()), key::inline_block(ino, end)));
  return erase_range(txn, key::patch(ino, run.first_block(), 0), key::patch(ino, end, 0));
}

}  // namespace datacloud::inline_blocks
