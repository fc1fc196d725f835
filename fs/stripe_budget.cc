// Counting of stripes in flight and of late puts.
#include "fs/stripe_budget.h"

namespace datacloud {

void StripeBudget::acquire() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return has_room(); });
  ++stripes_;
}

bool StripeBudget::try_acquire() {
  std::lock_guard lock(mutex_);
  if (!has_room()) return false;
  ++stripes_;
  return true;
}

void StripeBudget::release() {
  {
    std::lock_guard lock(mutex_);
    --stripes_;
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
    if (--late_[site] == 0) late_.erase(site);
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
