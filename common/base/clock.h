// Monotonic time and deadlines. Leases, deadlines and health use only this clock; wall time
// appears solely in file times and in what records tell people.
#pragma once

#include <time.h>

#include <chrono>
#include <cstdint>

namespace datacloud {

using MonotonicTime = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;
using std::chrono::milliseconds;
using std::chrono::seconds;

inline MonotonicTime monotonic_now() { return std::chrono::steady_clock::now(); }

// How long the machine has been suspended since its boot, give or take a microsecond. The monotonic
// clock stands still meanwhile; what others hold against us by theirs does not.
inline Duration time_suspended() {
  timespec running{}, all{};
  clock_gettime(CLOCK_MONOTONIC, &running);
  clock_gettime(CLOCK_BOOTTIME, &all);
  return std::chrono::seconds(all.tv_sec - running.tv_sec) +
         std::chrono::nanoseconds(all.tv_nsec - running.tv_nsec);
}

// Wall time as records keep it: nanoseconds since 1970 in 64 bits, which end in 1677 and 2262. A
// time beyond becomes the last whole second that fits, as file systems do (clamping in the kernel's
// timestamp_truncate). Every time that comes from outside passes here.
inline constexpr int64_t kNsPerSecond = 1'000'000'000;
inline constexpr int64_t kWallSecondsMax = INT64_MAX / kNsPerSecond;  // and the same below 1970

constexpr int64_t wall_ns(int64_t tv_sec, int64_t tv_nsec) {
  if (tv_sec >= kWallSecondsMax) return kWallSecondsMax * kNsPerSecond;
  if (tv_sec <= -kWallSecondsMax) return -kWallSecondsMax * kNsPerSecond;
  return tv_sec * kNsPerSecond + tv_nsec;
}

inline int64_t wall_ns(const timespec& time) { return wall_ns(time.tv_sec, time.tv_nsec); }

// And back, with nanoseconds from 0 on.
constexpr timespec to_timespec(int64_t ns) {
  const bool below = ns % kNsPerSecond < 0;
  timespec time{};
  time.tv_sec = ns / kNsPerSecond - (below ? 1 : 0);
  time.tv_nsec = ns % kNsPerSecond + (below ? kNsPerSecond : 0);
  return time;
}

// Now. For people and file times only.
inline int64_t wall_now_ns() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return wall_ns(now);
}

}  // namespace datacloud
