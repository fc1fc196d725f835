// Counting of stripes in flight and of late puts.
#include "fs/write/stripe_budget.h"

#include <algorithm>

#include "common/base/check.h"

namespace datacloud {

uint32_t StripeBudget::parts_of(uint32_t shard_bytes) {
  constexpr uint32_t part = kShardPlainBytesMax / kStripesPerPlace;
  return std::clamp((shard_bytes + part - 1) / part, 1u, kStripesPerPlace);
}

void StripeBudget::acquire(uint32_t shard_bytes) {
  const uint32_t parts = parts_of(shard_bytes);
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return has_room(parts); });
  parts_ += parts;
}

bool StripeBudget::try_acquire(uint32_t shard_bytes) {
  const uint32_t parts = parts_of(shard_bytes);
  std::lock_guard lock(mutex_);
  if (!has_room(parts)) return false;
  parts_ += parts;
  return true;
}

void StripeBudget::release(uint32_t shard_bytes) {
  {
    std::lock_guard lock(mutex_);
    const uint32_t parts = parts_of(shard_bytes);
    DC_CHECK(parts <= parts_, "a stripe's place is given back twice");
    parts_ -= parts;
  }
  changed_.notify_all();
}

void StripeBudget::late_begins(SiteId site, uint64_t bytes) {
  std::lock_guard lock(mutex_);
  ++late_[site];
  late_bytes_ += bytes;
}

void StripeBudget::late_ends(SiteId site, uint64_t bytes) {
  {
    std::lock_guard lock(mutex_);
    const auto late = late_.find(site);
    DC_CHECK(late != late_.end() && bytes <= late_bytes_, "a late put ends that never began");
    if (--late->second == 0) late_.erase(late);
    late_bytes_ -= bytes;
  }
  changed_.notify_all();
}

bool StripeBudget::slow(SiteId site) const {
  std::lock_guard lock(mutex_);
  const auto it = late_.find(site);
  return it != late_.end() && it->second >= kLatePutsMax;
}

bool StripeBudget::wait_no_late(Duration limit) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, limit, [this] { return late_.empty(); });
}

}  // namespace datacloud
