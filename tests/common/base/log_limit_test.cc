// A flood of similar lines costs little and is counted; different lines, and slow ones, all pass.
#include "common/base/log_limit.h"

#include <gtest/gtest.h>

namespace datacloud {
namespace {

const MonotonicTime kStart{};

TEST(LogLimit, AFloodPassesAsABurstAndThenSlowly) {
  LogLimit limit;
  int passed = 0;
  uint64_t said = 0;
  for (int ms = 0; ms < 60'000; ms++) {
    const auto verdict = limit.judge("site 17 timed out after " + std::to_string(ms) + " ms",
                                     kStart + milliseconds(ms));
    passed += verdict.pass;
    said += verdict.left_out;
  }
  EXPECT_EQ(passed, 10 + 9);
  EXPECT_EQ(limit.left_out_total(), 60'000u - 19);
  EXPECT_GT(said, 50'000u) << "what was left out is said with the next line";
}

TEST(LogLimit, OtherLinesAreNotHeldBackByAFlood) {
  LogLimit limit;
  for (int i = 0; i < 1000; i++) (void)limit.judge("noise", kStart);
  EXPECT_FALSE(limit.judge("noise", kStart).pass);
  EXPECT_TRUE(limit.judge("the cause", kStart).pass);
}

TEST(LogLimit, ASlowLineIsNeverLeftOut) {
  LogLimit limit;
  for (int i = 0; i < 1000; i++)
    EXPECT_TRUE(limit.judge("once in a while", kStart + i * LogLimit::kRefill).pass);
}

TEST(LogLimit, MemoryIsBoundedByForgettingOldKinds) {
  LogLimit limit;
  auto word = [](int i) {
    std::string text;
    for (; i > 0; i /= 26) text += static_cast<char>('a' + i % 26);
    return text;
  };
  for (int i = 0; i < 100'000; i++) EXPECT_TRUE(limit.judge(word(i), kStart).pass);
  for (int i = 0; i < 20; i++) (void)limit.judge("again", kStart);
  EXPECT_FALSE(limit.judge("again", kStart).pass);
  for (size_t i = 0; i <= LogLimit::kKindsMax; i++)
    (void)limit.judge(word(static_cast<int>(i)), kStart);
  EXPECT_TRUE(limit.judge("again", kStart).pass) << "forgotten, so new";
}

}  // namespace
}  // namespace datacloud
