// The memory bound of the write pipeline, in stripes, and which sites are too slow to be given
// more.
//
// A place is the memory of a stripe of shards of 4 MiB; stripes of small shards share it, up to
// kStripesPerPlace of them. A stripe holds its part from the moment blocks are put into it until it
// is committed or failed. A put that outlasts its stripe (the stripe was committed without it) is
// "late": its bytes stay in memory until the site answers. Late bytes hold back new stripes too,
// and a site with kLatePutsMax of them is passed over by placement, so that a hanging site costs
// neither memory nor a grace period per stripe.
//
// Thread safety: all methods from any thread.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>

#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/stripe/stripe_layout.h"

namespace datacloud {

inline constexpr int kLatePutsMax = 4;  // per site
inline constexpr uint32_t kStripesPerPlace = 8;

class StripeBudget {
 public:
  StripeBudget(uint32_t places, uint64_t late_bytes_max)
      : parts_max_((places == 0 ? 1 : places) * kStripesPerPlace),
        late_bytes_max_(late_bytes_max) {}

  // For a stripe of such shards, of plain bytes.
  void acquire(uint32_t shard_bytes = kShardPlainBytesMax);      // blocks until there is room
  bool try_acquire(uint32_t shard_bytes = kShardPlainBytesMax);  // false: no room now
  void release(uint32_t shard_bytes = kShardPlainBytesMax);

  void late_begins(SiteId, uint64_t bytes);
  void late_ends(SiteId, uint64_t bytes);
  bool slow(SiteId) const;
  // True once no put is late; false after `limit`.
  bool wait_no_late(Duration limit);

 private:
  static uint32_t parts_of(uint32_t shard_bytes);
  bool has_room(uint32_t parts) const {
    return parts_ + parts <= parts_max_ && late_bytes_ < late_bytes_max_;
  }

  const uint32_t parts_max_;
  const uint64_t late_bytes_max_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  uint32_t parts_ = 0;
  uint64_t late_bytes_ = 0;
  std::map<SiteId, int> late_;
};

}  // namespace datacloud
