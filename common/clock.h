// Monotonic time and deadlines. Leases, deadlines and health use only this clock; wall time
// appears solely in file times.
#pragma once

#include <chrono>

namespace datacloud {

using MonotonicTime = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;
using std::chrono::milliseconds;
using std::chrono::seconds;

inline MonotonicTime monotonic_now() { return std::chrono::steady_clock::now(); }

}  // namespace datacloud
