// Monotonic time and deadlines. Leases, deadlines and health use only this clock; wall time
// appears solely in file times and in what records tell people.
#pragma once

#include <chrono>
#include <cstdint>

namespace datacloud {

using MonotonicTime = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;
using std::chrono::milliseconds;
using std::chrono::seconds;

inline MonotonicTime monotonic_now() { return std::chrono::steady_clock::now(); }

// Wall time as records keep it. For people and file times only.
inline int64_t wall_now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace datacloud
