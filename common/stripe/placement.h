// Which site holds which column. Pure arithmetic.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/error.h"
#include "common/base/ids.h"
#include "common/codes/erasure_code.h"

namespace datacloud {

struct PlacementSite {
  SiteId id = 0;
  bool live = true;         // can take new shards now
  uint64_t free_bytes = 0;  // unused when 0
};

struct Placement {
  std::vector<SiteId> site_of_column;  // n entries: where the shard goes now
  std::vector<SiteId> home_of_column;  // n entries: where it would be with every site live
  // The stripe still decodes after losing any one more live site.
  bool survives_one_site = false;
};

// n columns over the sites, balanced (column counts differ by at most one) and rotated by
// `rotation` (a stripe id or group number). Columns whose home is not live go to live sites with
// the fewest columns of this stripe (stand-ins). Sites are taken in the order given.
// unavailable when no site is live.
// Columns outside `stored` (empty ones) take no part in the balance of stand-ins.
// With a home site (one of `sites`) that one holds the first data columns, as many as may be lost
// together, so that its readers stay local; the others rotate over the other sites.
result<Placement> place_columns(const ErasureCode&, const std::vector<PlacementSite>& sites,
                                uint64_t rotation, ColumnSet stored = ~ColumnSet{0},
                                SiteId home = 0);
// Data columns at a home site.
int home_columns(const ErasureCode&);

// What a cloud survives, computed by enumerating site losses, never assumed.
struct Tolerance {
  int sites = 0;                 // any this many sites
  int shards_after_sites = 0;    // ... and then this many more shards of each stripe
  int shards = 0;                // any this many shards of one stripe
  int sites_with_one_shard = 0;  // most sites that may be lost together with any one shard
  std::string text;              // "any 2 of 5 sites, or 1 site and 1 shard per stripe"
};
Tolerance compute_tolerance(const ErasureCode&, int site_count, bool has_home_site = false);

// Fewest live sites with which n columns can be spread so that losing any one site still decodes;
// INT_MAX when no number is enough (m = 0).
int sites_for_one_loss(const ErasureCode&);

}  // namespace datacloud
