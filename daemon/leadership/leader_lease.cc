// See leader_lease.h.
#include "daemon/leadership/leader_lease.h"

#include <time.h>

#include <algorithm>
#include <utility>

namespace datacloud {

BootTime BootClock::now() {
  timespec at{};
  clock_gettime(CLOCK_BOOTTIME, &at);
  return BootTime(std::chrono::seconds(at.tv_sec) + std::chrono::nanoseconds(at.tv_nsec));
}

LeaderLease::LeaderLease(size_t sites, size_t commit, Duration length, Clock clock)
    : commit_(commit), clock_(std::move(clock)), length_(length), confirmed_(sites) {
  count();
}

void LeaderLease::set_length(Duration length) {
  std::lock_guard lock(mutex_);
  length_ = length;
  count();
}

Duration LeaderLease::length() const {
  std::lock_guard lock(mutex_);
  return length_;
}

void LeaderLease::confirm(size_t site, BootTime asked) {
  std::lock_guard lock(mutex_);
  confirmed_[site] = std::max(confirmed_[site], asked);
  count();
}

void LeaderLease::count() {
  if (ended_ || commit_ == 0 || commit_ > confirmed_.size()) {
    until_ = Duration::min();
    return;
  }
  if (length_ == Duration(0)) {
    until_ = Duration::max();
    return;
  }
  std::vector<BootTime> newest = confirmed_;
  const auto nth = newest.begin() + static_cast<std::ptrdiff_t>(commit_ - 1);
  std::nth_element(newest.begin(), nth, newest.end(), std::greater<>());
  until_ = *nth == BootTime() ? Duration::min() : (*nth + length_).time_since_epoch();
}

bool LeaderLease::holds() const {
  const Duration until = until_;
  return until == Duration::max() || clock_().time_since_epoch() < until;
}

void LeaderLease::end() {
  std::lock_guard lock(mutex_);
  ended_ = true;
  count();
}

BootTime LeaderLease::confirmed_at(size_t site) const {
  std::lock_guard lock(mutex_);
  return confirmed_[site];
}

}  // namespace datacloud
