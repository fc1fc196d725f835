// When a read counts as late: percentiles of the other sites, sizes apart, bounded both ways.
#include "fs/read/read_times.h"

#include <gtest/gtest.h>

#include "common/store/memory_store.h"

namespace datacloud {
namespace {

class ReadTimesTest : public ::testing::Test {
 protected:
  ReadTimesTest() : sites_(members()), times_(sites_, MountConfig{}) {}
  static std::vector<SiteSet::Member> members() {
    std::vector<SiteSet::Member> out;
    for (SiteId id = 1; id <= 3; ++id)
      out.push_back({id, "site" + std::to_string(id), make_memory_store()});
    return out;
  }
  void answers(SiteId site, uint64_t bytes, Duration took, int count = 64) {
    for (int i = 0; i < count; ++i) times_.answered(site, bytes, took);
  }
  SiteSet sites_;
  ReadTimes times_;
};

constexpr uint64_t kBlock = 64u << 10;

TEST_F(ReadTimesTest, WithoutAnswersThereIsTheOption) {
  EXPECT_EQ(times_.patience(1, kBlock, 2), milliseconds(MountConfig{}.hedge_after_ms));
  EXPECT_FALSE(times_.usually_late(1, kBlock, 2));
}

TEST_F(ReadTimesTest, OneSlowSiteIsLateAndTheOthersAreNot) {
  answers(1, kBlock, milliseconds(300));
  answers(2, kBlock, milliseconds(2));
  answers(3, kBlock, milliseconds(5));
  EXPECT_EQ(times_.patience(1, kBlock, 2), ReadTimes::kPatienceMin);
  EXPECT_TRUE(times_.usually_late(1, kBlock, 2));
  // Racing a read of site 2 would wait for site 1: not before that would be sensible.
  EXPECT_EQ(times_.patience(2, kBlock, 2), milliseconds(MountConfig{}.hedge_after_ms));
  EXPECT_FALSE(times_.usually_late(2, kBlock, 2));
  // Of other sizes nothing is known.
  EXPECT_FALSE(times_.usually_late(1, 4u << 20, 2));
}

TEST_F(ReadTimesTest, FollowsThePercentileOfTheLastAnswers) {
  answers(1, kBlock, milliseconds(30));
  answers(2, kBlock, milliseconds(30));
  answers(3, kBlock, milliseconds(40));
  EXPECT_EQ(times_.patience(1, kBlock, 2), milliseconds(120));
  answers(3, kBlock, milliseconds(100), 2);  // fewer than one in twenty
  answers(3, kBlock, milliseconds(40), 62);
  EXPECT_EQ(times_.patience(1, kBlock, 2), milliseconds(120));
  answers(3, kBlock, milliseconds(100), 8);
  EXPECT_EQ(times_.patience(1, kBlock, 2), milliseconds(300));
}

TEST_F(ReadTimesTest, ASiteThatJoinsCountsAndOneThatLeftDoesNot) {
  answers(4, kBlock, milliseconds(1));  // not a site
  answers(1, kBlock, milliseconds(300));
  answers(2, kBlock, milliseconds(30));
  answers(3, kBlock, milliseconds(100));
  EXPECT_EQ(times_.patience(1, kBlock, 2), milliseconds(300));
  ASSERT_TRUE(sites_.add({4, "site4", make_memory_store()}));
  EXPECT_EQ(times_.patience(1, kBlock, 2), milliseconds(300)) << "nothing is known of it yet";
  answers(4, kBlock, milliseconds(40));
  EXPECT_EQ(times_.patience(1, kBlock, 2), milliseconds(120));
  answers(4, kBlock, milliseconds(900));
  EXPECT_TRUE(times_.usually_late(4, kBlock, 2));
  sites_.retire(2);
  EXPECT_EQ(times_.patience(4, kBlock, 1), milliseconds(300));
}

TEST_F(ReadTimesTest, ASlowSiteIsAskedOnceInAWhile) {
  const MonotonicTime now = monotonic_now();
  answers(1, kBlock, milliseconds(300));
  EXPECT_TRUE(times_.probe(1, now));
  EXPECT_FALSE(times_.probe(1, now + milliseconds(500)));
  EXPECT_TRUE(times_.probe(1, now + ReadTimes::kProbeEvery));
}

TEST_F(ReadTimesTest, AHedgeAtOrAboveTheDeadlineIsNone) {
  MountConfig config;
  config.hedge_after_ms = config.read_deadline_ms;
  ReadTimes off(sites_, config);
  for (int i = 0; i < 64; ++i)
    for (SiteId id = 1; id <= 3; ++id)
      off.answered(id, kBlock, id == 1 ? milliseconds(300) : milliseconds(2));
  EXPECT_EQ(off.patience(1, kBlock, 2), milliseconds(config.read_deadline_ms));
  EXPECT_FALSE(off.usually_late(1, kBlock, 2));
}

}  // namespace
}  // namespace datacloud
