// The last step of every fold: one transaction changes the base's record, its XOR row and the block
// map. If it cannot be made, nothing changes and the new objects are abandoned. Called from jobs.
#pragma once

#include "daemon/fold/parity_fold.h"
#include "daemon/jobs/shard_parts.h"

namespace datacloud {

// An object that has been, or is to be, made: a column of the base or of its XOR row.
struct FoldedColumn {
  const pb::Stripe* stripe = nullptr;  // of the snapshot
  int column = 0;
  InstanceId instance = 0;
  BlockVersions versions;  // afterwards
};

// `folded`: indices of the snapshot's updates whose bytes the objects hold, all durable. Sets the
// outcome to folded, or, when a record changed or a column was found bad meanwhile, to changed;
// then everything is abandoned. Blocks whose map entry is not the one that was read stay where they
// are.
result<void> switch_fold(BackgroundContext&, const FoldSnapshot&, const std::vector<size_t>& folded,
                         const std::vector<FoldedColumn>&, FoldOutcome&);

// Gives up the names of new objects: they will never be committed, and the collector deletes them.
result<void> abandon_fold(BackgroundContext&, const FoldSnapshot&,
                          const std::vector<FoldedColumn>&);

// True when all parts were read and are what was written. Otherwise the outcome becomes blocked,
// and damage is recorded, to be repaired before anything is folded.
result<bool> accept_parts(BackgroundContext&, const std::vector<ShardParts>&, FoldOutcome&);

// Computes the base's changed columns and its parity anew from all of its data, keeping every slot
// where it is. When many blocks of a stripe change, this moves fewer bytes between sites than
// deltas do. Only for stripes without an XOR row.
result<void> reencode_stripe(BackgroundContext&, BackgroundIds&, const FoldSnapshot&,
                             const std::vector<size_t>& folded, FoldOutcome&);

}  // namespace datacloud
