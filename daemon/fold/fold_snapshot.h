// The input of a fold, read from one state of the metadata: the base stripe, its XOR row, and for
// each dead slot whose former block was overwritten, where the newer contents are.
//
// A block that was overwritten several times is one update with its newest contents: the block map
// has no others.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/plan/fold_planner.h"
#include "daemon/jobs/background_context.h"

namespace datacloud {

struct FoldUpdate {
  InodeId ino = 0;
  uint64_t block = 0;
  ContentVersion version = 0;
  uint32_t base_slot = 0;
  Slot place;           // in the base; its length is the room up to the next slot
  StripeId source = 0;  // where the newest contents are
  uint32_t source_slot = 0;
  uint32_t new_bytes = 0;
};

struct FoldSnapshot {
  std::shared_ptr<const ErasureCode> code;
  pb::Stripe base;
  std::optional<pb::Stripe> row;
  ColumnSet base_bad = 0, row_bad = 0;  // missing, damaged, or at a site that is away
  std::vector<Slot> live;
  std::vector<FoldUpdate> updates;
  std::map<StripeId, pb::Stripe> sources;
  size_t unripe = 0;  // updates that were left out because they are too recent
  uint64_t unripe_bytes = 0;
  size_t unusable = 0;  // updates that were left out because they cannot be read now
  std::string unusable_reason;

  FoldProblem problem(const BackgroundContext&) const;  // refers to this snapshot
};

// Says whether updates in this stripe are old enough. On the loop.
using IsRipe = std::function<bool(StripeId)>;

// On the loop. nullopt: the stripe is not there any more. At most kFoldUpdatesMax updates.
inline constexpr size_t kFoldUpdatesMax = 2048;
result<std::optional<FoldSnapshot>> fold_snapshot(const BackgroundContext&, const Transaction&,
                                                  StripeId base, const IsRipe&);

// The stripe next to `from` that has dead slots with former owners; nullopt: none.
result<std::optional<StripeId>> next_fold_base(const Transaction&, StripeId from);

}  // namespace datacloud
