// When a stripe may be acknowledged. Pure arithmetic over which site holds which durable shard.
#pragma once

#include <vector>

#include "common/base/ids.h"
#include "common/codes/erasure_code.h"

namespace datacloud {

// Where the shards of a stripe are durable.
struct ShardsHeld {
  std::vector<SiteId> site_of_column;  // n entries; 0: not durable (or empty)
  ColumnSet empty = 0;                 // data columns without contents: known to be zero
};

// Every data column is known or can be computed from the columns in `available`.
bool decodes(const ErasureCode&, ColumnSet available);

// The stripe still decodes after losing all shards of any one site.
bool survives_any_site(const ErasureCode&, const ShardsHeld&);

// The rule of docs/design.md: min(k + 1, n) columns durable (empty ones count), on at least
// min(sites_min, stored columns) sites, and, if m >= 1 and `sites_live` are enough for it,
// surviving the loss of any one more site.
struct QuorumRule {
  uint32_t sites_min = 0;
  size_t sites_live = 0;  // sites that could hold shards of this stripe
};
bool has_write_quorum(const ErasureCode&, const ShardsHeld&, const QuorumRule&);

int columns_durable(const ShardsHeld&);  // empty ones included
size_t sites_holding(const ShardsHeld&);

}  // namespace datacloud
