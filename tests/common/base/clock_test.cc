// Times of files at and beyond what 64 bits of nanoseconds hold.
#include "common/base/clock.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "tests/support/seeded.h"

namespace datacloud {
namespace {

__extension__ typedef __int128 Wide;
constexpr int64_t kInt64Max = std::numeric_limits<int64_t>::max();
constexpr int64_t kInt64Min = std::numeric_limits<int64_t>::min();

// Times all over 64 bits, and closely around where nanoseconds end.
int64_t some_seconds(Seeded& random) {
  switch (random.number(0, 3)) {
    case 0:
      return static_cast<int64_t>(random.engine()());
    case 1:
      return kWallSecondsMax - 3 + static_cast<int64_t>(random.number(0, 6));
    case 2:
      return -kWallSecondsMax - 3 + static_cast<int64_t>(random.number(0, 6));
    default:
      return static_cast<int64_t>(random.number(0, 1ull << 33)) - (int64_t{1} << 32);
  }
}

TEST(Clock, TimesOfAnyYearBecomeTheNearestThatFits) {
  Seeded random;
  for (int i = 0; i < 200'000; ++i) {
    const int64_t seconds = some_seconds(random);
    const auto nanoseconds = static_cast<int64_t>(random.number(0, kNsPerSecond - 1));
    const Wide exact = static_cast<Wide>(seconds) * kNsPerSecond + nanoseconds;
    const int64_t kept = wall_ns(seconds, nanoseconds);
    if (seconds > -kWallSecondsMax && seconds < kWallSecondsMax)
      ASSERT_TRUE(exact == kept) << seconds << " s " << nanoseconds << " ns";
    else
      ASSERT_EQ(kept, (seconds > 0 ? 1 : -1) * kWallSecondsMax * kNsPerSecond) << seconds;
    const timespec shown = to_timespec(kept);
    ASSERT_EQ(wall_ns(shown), kept);
    if (exact == kept) {
      ASSERT_EQ(shown.tv_sec, seconds);
      ASSERT_EQ(shown.tv_nsec, nanoseconds);
    }
  }
}

TEST(Clock, LaterTimesNeverBecomeEarlier) {
  Seeded random;
  for (int i = 0; i < 100'000; ++i) {
    const std::pair<int64_t, int64_t> a{some_seconds(random), random.number(0, kNsPerSecond - 1)},
        b{some_seconds(random), random.number(0, kNsPerSecond - 1)};
    ASSERT_LE(wall_ns(std::min(a, b).first, std::min(a, b).second),
              wall_ns(std::max(a, b).first, std::max(a, b).second));
  }
}

TEST(Clock, WhateverARecordHoldsCanBeShown) {
  Seeded random;
  for (const int64_t ns : {kInt64Min, kInt64Min + 1, int64_t{-1}, int64_t{0}, kInt64Max,
                           static_cast<int64_t>(random.engine()())}) {
    const timespec shown = to_timespec(ns);
    EXPECT_GE(shown.tv_nsec, 0);
    EXPECT_LT(shown.tv_nsec, kNsPerSecond);
    EXPECT_TRUE(static_cast<Wide>(shown.tv_sec) * kNsPerSecond + shown.tv_nsec == ns);
  }
}

TEST(Clock, YearsBeyondShowTheLastOnes) {
  constexpr int64_t kYear2300 = 10'413'792'000, kYear1600 = -11'676'096'000;
  EXPECT_EQ(to_timespec(wall_ns(kYear2300, 1)).tv_sec, 9'223'372'036);   // 2262-04-11
  EXPECT_EQ(to_timespec(wall_ns(kYear1600, 1)).tv_sec, -9'223'372'036);  // 1677-09-21
  EXPECT_EQ(to_timespec(wall_ns(kYear2300, 1)).tv_nsec, 0);
}

}  // namespace
}  // namespace datacloud
