// A refusal is remembered for as much and more, for a growing while, and until something as large
// has been taken.
#include "common/base/refusal_pause.h"

#include <gtest/gtest.h>

#include <thread>

namespace datacloud {
namespace {

const Error kFull(Errc::no_space, "full");

TEST(RefusalPause, NothingIsRefusedBeforeTheFirst) {
  RefusalPause pause;
  EXPECT_FALSE(pause.lasting(UINT64_MAX));
  EXPECT_FALSE(pause.accepted(UINT64_MAX));
}

TEST(RefusalPause, AsMuchAndMoreIsRefusedAndLessIsTried) {
  RefusalPause pause;
  EXPECT_TRUE(pause.refused(1000, kFull));
  EXPECT_FALSE(pause.refused(5000, kFull)) << "known already";
  ASSERT_TRUE(pause.lasting(1000));
  EXPECT_TRUE(pause.lasting(1000)->is(Errc::no_space));
  EXPECT_TRUE(pause.lasting(UINT64_MAX));
  EXPECT_FALSE(pause.lasting(999));
  EXPECT_FALSE(pause.refused(10, kFull));
  EXPECT_TRUE(pause.lasting(10));
  EXPECT_FALSE(pause.lasting(9));
}

TEST(RefusalPause, OnlyWhatIsAsLargeEndsIt) {
  RefusalPause pause;
  (void)pause.refused(1000, kFull);
  EXPECT_FALSE(pause.accepted(999));
  EXPECT_TRUE(pause.lasting(1000));
  EXPECT_TRUE(pause.accepted(1000));
  EXPECT_FALSE(pause.lasting(UINT64_MAX));
  EXPECT_FALSE(pause.accepted(1000)) << "it has ended already";
}

TEST(RefusalPause, OneMoreIsTriedAfterAPauseThatGrowsUpToItsLimit) {
  RefusalPause pause;
  Duration last{};
  for (int round = 0; round < 3; ++round) {
    const auto start = monotonic_now();
    (void)pause.refused(0, kFull);
    (void)pause.refused(0, kFull);  // of the same moment: does not make it longer
    ASSERT_TRUE(pause.lasting(0));
    while (pause.lasting(0)) {
      ASSERT_LT(monotonic_now() - start, seconds(60));
      std::this_thread::sleep_for(milliseconds(5));
    }
    const Duration lasted = monotonic_now() - start;
    EXPECT_GE(lasted, std::max<Duration>(RefusalPause::kFirst, last));
    last = std::min<Duration>(2 * last, RefusalPause::kMax) - milliseconds(50);
    if (round == 0) last = RefusalPause::kFirst * 2 - milliseconds(50);
  }
}

}  // namespace
}  // namespace datacloud
