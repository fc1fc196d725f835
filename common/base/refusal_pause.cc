// See refusal_pause.h. The size is looked at without the lock first: most of the time there is
// none.
#include "common/base/refusal_pause.h"

#include <algorithm>

namespace datacloud {

bool RefusalPause::refused(uint64_t bytes, const Error& error) {
  std::lock_guard lock(mutex_);
  const auto now = monotonic_now();
  const bool first = bytes_ == kNone;
  error_ = error;
  bytes_ = std::min<uint64_t>(bytes_, std::min(bytes, kNone - 1));
  if (now < until_) return first;  // tried before the last refusal was known
  pause_ = std::clamp<Duration>(2 * pause_, kFirst, kMax);
  until_ = now + pause_;
  return first;
}

bool RefusalPause::accepted(uint64_t bytes) {
  if (bytes < bytes_.load(std::memory_order_relaxed)) return false;
  std::lock_guard lock(mutex_);
  if (bytes < bytes_ || bytes_ == kNone) return false;
  bytes_ = kNone;
  pause_ = {};
  until_ = {};
  return true;
}

std::optional<Error> RefusalPause::lasting(uint64_t bytes) const {
  if (bytes < bytes_.load(std::memory_order_relaxed)) return std::nullopt;
  std::lock_guard lock(mutex_);
  if (bytes < bytes_ || monotonic_now() >= until_) return std::nullopt;
  return error_;
}

}  // namespace datacloud
