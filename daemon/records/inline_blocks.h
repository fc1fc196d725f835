// Blocks whose bytes, or some of them, are records here and not at the sites (feature "inline"):
//   `V` ino, block             the sealed block of an inline run, which names no stripe
//   `W` ino, block, version    a sealed patch of a run's block; patches apply in this order
//
// Invariants: such a run is of one block and counts its patches; a `V` has an inline run and a `W`
// one that counts it; patches have versions above that of the sealed block they start from. The
// records come with their run and go with it, in one transaction: overwriting, cutting and
// reclaiming do not ask (block_map.cc). What moves slots leaves such a block where it is. Inline
// blocks go into slots as they are, by a mount or by the daemon (move_to_slots): a slot holds a
// sealed block, too. Their patches stay beside the slot: they name the version of what they were
// made for, which is the same, and the daemon can open neither.
//
// How commits bring them: inline_commit.h. What fsck does: daemon/fsck/check_inline.cc.
//
// Functions of the loop, pure changes of a transaction.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/crypto/block_patches.h"
#include "daemon/metadata/metadata_store.h"

namespace datacloud::inline_blocks {

inline constexpr char kFeature[] = "inline";

// Whether the run has such records.
inline bool has_records(const pb::Run& run) { return run.inline_() || run.patches() > 0; }
// Null when the run can be one; else why not. An inline run that names a stripe can be mended
// (daemon/fsck/check_inline.cc) and is no such case.
const char* malformed(const pb::Run&);

// Whether as many bytes can be a sealed block (or patch) of a file with blocks of `block_bytes`.
bool fits_block(size_t sealed_bytes, uint32_t block_bytes);
bool fits_patch(size_t sealed_bytes, uint32_t block_bytes);

// A block, or a patch of one, that a commit brings.
struct NewBytes {
  InodeId ino = 0;
  uint64_t block = 0;
  ContentVersion version = 0;
  std::string sealed;
  uint64_t change_id = 0;  // of the file's new state
  uint64_t grow_to = 0;    // its size afterwards at least
};
// The block is inline from then on; what was mapped there goes. The inode as it is then. invalid:
// the bytes are none of a block.
result<pb::Inode> put_block(Transaction&, const NewBytes&);
// invalid: no block is mapped there, or its data are lost; it has `patches_max` patches already
// (daemon.block_patches_max); the version is not above that of all it has: versions come in ranges
// to mounts, so one with older ones left has to ask for new ones.
result<pb::Inode> put_patch(Transaction&, const NewBytes&,
                            uint32_t patches_max = kBlockPatchesDefault);

struct StoredPatch {
  ContentVersion version = 0;
  std::string sealed;
};
struct BlockRecords {
  std::string block;  // of an inline run
  std::vector<StoredPatch> patches;
};
// corrupt: not exactly what the run says.
result<BlockRecords> read_records(const Transaction&, InodeId, const pb::Run&);

// An inline block whose sealed bytes a slot of a stripe holds, too.
struct BlockInSlot {
  uint64_t block = 0;
  ContentVersion version = 0;
  uint32_t slot = 0;
};
// These blocks of a file, in ascending order, are in slots of the stripe from then on, which the
// transaction has. Their patches stay. A block that is not inline under this version any more,
// whose file is gone or whose records are damaged stays as it is. How many were moved.
result<size_t> move_to_slots(Transaction&, InodeId, StripeId, const std::vector<BlockInSlot>&);

// Of a run that goes.
result<void> erase_records(Transaction&, InodeId, const pb::Run&);

}  // namespace datacloud::inline_blocks
