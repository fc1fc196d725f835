// The one transaction by which background work gives a stripe new instances of some of its shards.
//
// The caller has put the new objects durably; the old ones become pending deletions in the same
// transaction. Nothing is switched when the stripe's record is not the one the work was computed
// from (design: one snapshot per computation).
#pragma once

#include <string>
#include <vector>

#include "daemon/metadata/metadata_store.h"
#include "daemon/records/repair_queue.h"

namespace datacloud {

struct ShardSwitch {
  int column = 0;
  pb::Shard shard;  // what the record says from now on
};

// True when switched. False: the record is not `expected` any more; nothing was changed. The
// columns' damage records go; the stripe is queued again if it still needs anything.
result<bool> switch_shards(Transaction&, const pb::Stripe& expected,
                           const std::vector<ShardSwitch>&, const SiteDuties&);

}  // namespace datacloud
