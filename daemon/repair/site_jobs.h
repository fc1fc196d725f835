// Walks over all stripes for the life cycle of sites. Jobs of the background threads; they block,
// and look at a bounded number of records at a time on the loop.
#pragma once

#include <functional>

#include "daemon/jobs/background_context.h"

namespace datacloud {

// Shards that are, or belong, at the site, and objects there that wait for their deletion.
struct SiteUse {
  uint64_t shards = 0;
  uint64_t deletions = 0;
};
result<SiteUse> site_use(BackgroundContext&, SiteId);

// Whether the cloud once had such a site, which has been removed. On the loop.
result<bool> has_left(const Transaction&, const std::function<bool(const pb::SiteInfo&)>& is_it);

// Gives columns new homes until every active site is home to about as many, with as few moves as
// that takes; a group's columns stay together. The repairer then moves the shards. Returns the
// number of shards to be moved.
result<uint64_t> rebalance(BackgroundContext&);

}  // namespace datacloud
