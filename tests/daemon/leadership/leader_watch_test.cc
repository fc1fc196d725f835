// When the leader is taken for dead, and whose turn it is then.
#include "daemon/leadership/leader_watch.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace datacloud {
namespace {

using namespace std::chrono_literals;

class LeaderWatchTest : public ::testing::Test {
 protected:
  MonotonicTime at(Duration since) const { return MonotonicTime(1h) + since; }
  LeaderWatch watch_{{.silence = 1500ms, .refused = 100ms, .turn = 1s}, at(0s)};
};

TEST_F(LeaderWatchTest, SilenceIsDeath) {
  EXPECT_FALSE(watch_.dead_since(at(1499ms)));
  ASSERT_TRUE(watch_.dead_since(at(1500ms)));
  EXPECT_EQ(*watch_.dead_since(at(9s)), at(1500ms));
}

TEST_F(LeaderWatchTest, AnySignOfLifeCounts) {
  watch_.lives(at(1s));
  EXPECT_FALSE(watch_.dead_since(at(2s)));
  watch_.lives(at(900ms));
  EXPECT_FALSE(watch_.dead_since(at(2499ms))) << "one that comes late takes nothing back";
  EXPECT_TRUE(watch_.dead_since(at(2500ms)));
}

TEST_F(LeaderWatchTest, TwoRefusalsAreDeathAndOneIsNot) {
  watch_.refused(at(300ms));
  EXPECT_FALSE(watch_.dead_since(at(300ms)));
  watch_.refused(at(399ms));
  EXPECT_FALSE(watch_.dead_since(at(399ms))) << "it may be starting";
  watch_.refused(at(400ms));
  ASSERT_TRUE(watch_.dead_since(at(400ms)));
  EXPECT_EQ(*watch_.dead_since(at(400ms)), at(400ms));
}

TEST_F(LeaderWatchTest, ALifeBetweenRefusalsCounts) {
  watch_.refused(at(0ms));
  watch_.lives(at(50ms));
  watch_.refused(at(200ms));
  EXPECT_FALSE(watch_.dead_since(at(200ms)));
  watch_.refused(at(300ms));
  EXPECT_TRUE(watch_.dead_since(at(300ms)));
  watch_.lives(at(310ms));
  EXPECT_FALSE(watch_.dead_since(at(320ms))) << "another one leads by now";
}

TEST_F(LeaderWatchTest, EachStandbyWaitsASecondLonger) {
  EXPECT_TRUE(watch_.due(0, at(1500ms)));
  EXPECT_FALSE(watch_.due(1, at(2499ms)));
  EXPECT_TRUE(watch_.due(1, at(2500ms)));
  EXPECT_FALSE(watch_.due(2, at(3499ms)));
  watch_.lives(at(2s));
  EXPECT_FALSE(watch_.due(1, at(3s)));
}

TEST_F(LeaderWatchTest, WhoeverBeginsToLeadIsNotDisturbed) {
  watch_.refused(at(0s));
  watch_.be_patient(4s);
  watch_.refused(at(2s));
  EXPECT_FALSE(watch_.dead_since(at(3999ms)));
  EXPECT_EQ(watch_.dead_since(at(5s)), at(4s));
  watch_.lives(at(4s));
  EXPECT_FALSE(watch_.dead_since(at(7s)));
  watch_.be_prompt();
  EXPECT_TRUE(watch_.dead_since(at(7s)));
}

pb::Leadership record(std::vector<std::pair<std::string, uint32_t>> daemons,
                      const std::string& leader) {
  pb::Leadership out;
  for (const auto& [name, order] : daemons) {
    auto* daemon = out.add_daemons();
    daemon->set_name(name);
    daemon->set_order(order);
  }
  out.set_leader(leader);
  return out;
}

TEST(SuccessionRank, IsByOrderThenName) {
  const auto three = record({{"a", 2}, {"b", 1}, {"c", 2}}, "b");
  EXPECT_EQ(succession_rank(three, "a"), 0u);
  EXPECT_EQ(succession_rank(three, "c"), 1u);
  EXPECT_EQ(succession_rank(three, "b"), 0u) << "it led, and was started again";
  EXPECT_EQ(succession_rank(three, "d"), std::nullopt) << "nobody has noted it";
}

TEST(SuccessionRank, ALoneDaemonIsTheFirst) {
  EXPECT_EQ(succession_rank(record({{"a", 7}}, "a"), "a"), 0u);
  EXPECT_EQ(succession_rank({}, "a"), std::nullopt);
}

}  // namespace
}  // namespace datacloud
