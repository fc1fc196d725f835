// Block maps, stripes and live counts as pure changes of a transaction.
//
// Invariants kept by every function here, checked by check_block_map (tests; fsck has passes):
// runs of an inode do not overlap; every run names an existing stripe and slots inside it, or no
// stripe when fsck has found its data lost (lost_runs.h), and has one reference
// (slot_references.h); the live
// count of a stripe is the number (and sealed bytes) of slots mapped by runs; a stripe whose live
// count becomes 0 is erased with its reverse map, former owners and damage records, and its objects
// become pending deletions in the same transaction.
#pragma once

#include <functional>
#include <vector>

#include "common/proto/rpc.pb.h"
#include "daemon/metadata/metadata_store.h"
#include "daemon/metadata/totals.h"

namespace datacloud {

// Blocks that are mapped to slots of a stripe, which they have a reference to.
inline bool names_slots(const pb::Run& run) { return run.stripe() != 0; }
// Blocks that are mapped and whose data are lost: reading them is an error. (Those of inline runs
// are in records: inline_blocks.h.)
inline bool is_lost(const pb::Run& run) { return !names_slots(run) && !run.inline_(); }

// File bytes in mapped blocks: whole blocks, less what the last one has beyond the file's end.
result<uint64_t> logical_bytes(const Transaction&, const pb::Inode&);

// Structural check of a stripe record from a mount or from storage: known code, n shards, slots
// inside their columns, lengths within bounds. invalid names the field.
result<void> validate_stripe(const pb::Stripe&);

// Adds a new stripe and its live record (0 slots). invalid; exists when the id is taken.
result<void> add_stripe(Transaction&, const pb::Stripe&);

// Why mapped slots lose their blocks: new data supersede them, which a fold may bring back into
// these slots, or the same data are mapped elsewhere.
enum class Displaced { superseded, moved };
// Whether the slots that runs name may have users already. Runs that mounts commit are of new
// stripes: never. Of clones all have: the source.
enum class SlotUse { alone, shared, cloned };

// Whether the inode is in a state that the update may follow (InodeUpdate.follows).
bool may_follow(const pb::Inode&, const pb::InodeUpdate&);

// Truncates, clones, maps runs, grows, sets times: one inode's part of a commit. Clones must be
// such as may_share() has allowed (clone_rules.h). The inode's change id becomes the update's, or
// just another when that has none; moved data keep it. Stripes whose last live slot goes are turned
// into pending deletions. At most `runs_max` existing runs are unmapped per call when the inode is
// being reclaimed (see reclaim_inode).
result<pb::Inode> update_inode(Transaction&, const pb::InodeUpdate&,
                               Displaced = Displaced::superseded, SlotUse = SlotUse::alone);

// Blocks of one file become blocks of another (or further ones of the same) without their data:
// both are mapped to the same slots, and the clone's runs say what these are sealed for. What the
// target had there goes; holes become holes. The caller sees to leases, and that all of the source
// up to there is committed.
struct CloneRange {
  InodeId source = 0, target = 0;
  uint64_t first_block = 0, target_block = 0, count = 0;
  uint64_t grow_to = 0;  // the target's size afterwards at least
  int64_t now_ns = 0;    // its mtime and ctime
};
// The target as it is then. invalid: not both regular files, or of different block sizes, or the
// ranges overlap. EXDEV: of different realms. no_space: the data are to be copied: a stripe is
// shared too often already, or a block is inline or has patches, which are sealed for its place
// alone. EFBIG.
result<pb::Inode> clone_range(Transaction&, const CloneRange&);

// Stripes added by a commit whose slots no run maps (their inodes are gone): drop them again.
result<void> drop_unmapped_stripes(Transaction&, const std::vector<StripeId>&);

// Frees an orphan in bounded steps: unmaps up to runs_max runs; when none is left erases inode,
// xattrs and orphan record and returns true.
result<bool> reclaim_inode(Transaction&, InodeId, uint32_t runs_max);

// Snapshot of the map: runs overlapping [first, first + blocks) clipped to it, with their stripes.
// At most 4096 runs, and pieces up to kMapPieceBytes (common/rpc/inline_limits.h); the reply then
// covers a prefix, up to its last run.
result<pb::MapReply> read_map(const Transaction&, const pb::MapRequest&);

// The inode's runs in [first, first + blocks), clipped to it, without their stripes; at most 4096.
result<std::vector<pb::Run>> runs_of(const Transaction&, InodeId, uint64_t first, uint64_t blocks);

result<std::optional<pb::Stripe>> get_stripe(const Transaction&, StripeId);
// A stripe without a record whose objects stay: the record is in quarantine, or blocks still name
// it.
result<bool> is_kept(const Transaction&, StripeId);
result<void> record_damage(Transaction&, const pb::Damage&);
// A shard found bad now.
pb::Damage damage_of(const ShardName&, SiteId, const std::string& reason);
// All stripe ids an inode's runs from `first` on name, in file order, without repetition, at most
// `count_max`; and how many blocks among them are lost, inline, or in a stripe with patches.
struct StripesOfInode {
  std::vector<StripeId> ids;
  uint64_t blocks_lost = 0, blocks_inline = 0, blocks_patched = 0;
  std::optional<uint64_t> next_block;  // of the first run left out
};
result<StripesOfInode> stripes_of_inode(const Transaction&, InodeId, size_t count_max,
                                        uint64_t first = 0);

// Adds a pending deletion under the next free number.
result<void> add_pending_deletion(Transaction&, const pb::PendingDeletion&);

// Verifies the invariants above over the whole store; returns findings, one line each (bounded).
result<std::vector<std::string>> check_block_map(const Transaction&);

}  // namespace datacloud
