// The memory bound of the write pipeline, in stripes, and which sites are too slow to be given
// more.
//
// A stripe holds one place from the moment blocks are put into it until it is committed or failed.
// A put that outlasts its stripe (the stripe was committed without it) is "late": its bytes stay in
// memory until the site answers. Late bytes hold back new stripes too, and a site with
// kLatePutsMax of them is passed over by placement, so that a hanging site costs neither memory
// nor a grace period per stripe.
//
// Thread safety: all methods from any thread.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>

#include "common/clock.h"
#include "common/ids.h"

namespace datacloud {

inline constexpr int kLatePutsMax = 4;  // per site

class StripeBudget {
 public:
  StripeBudget(uint32_t stripes_max, uint64_t late_bytes_max)
      : stripes_max_(stripes_max == 0 ? 1 : stripes_max), late_bytes_max_(late_bytes_max) {}

  void acquire();      // blocks until there is a place
  bool try_acquire();  // false: no place now
  void release();

  void late_begins(SiteId, uint64_t bytes);
  void late_ends(SiteId, uint64_t bytes);
  bool slow(SiteId) const;
  // True once no put is late; false after `limit`.
  bool wait_no_late(Duration limit);

 private:
  bool has_room() const { return stripes_ < stripes_max_ && late_bytes_ < late_bytes_max_; }

  const uint32_t stripes_max_;
  const uint64_t late_bytes_max_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  uint32_t stripes_ = 0;
  uint64_t late_bytes_ = 0;
  std::map<SiteId, int> late_;
};

}  // namespace datacloud
