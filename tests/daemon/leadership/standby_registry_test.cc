// What a leader knows of its standbys: plans, who is preferred, and what a report may say.
#include "daemon/leadership/standby_registry.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "daemon/metadata/journal_records.h"

namespace datacloud {
namespace {

using namespace std::chrono_literals;

class StandbyRegistryTest : public ::testing::Test {
 protected:
  StandbyRegistryTest() {
    note("home", 0);
    note("near", 1);
    note("far", 2);
    record_.set_leader("home");
  }
  void note(const std::string& name, uint32_t order) {
    pb::Leadership::Daemon daemon;
    daemon.set_name(name);
    daemon.set_order(order);
    ASSERT_TRUE(note_daemon(record_, daemon));
  }
  static pb::LeaderRequest request(const std::string& name, uint64_t sequence) {
    pb::LeaderRequest request;
    request.set_name(name);
    journal::LogPosition position;
    position.sequence = sequence;
    request.set_position(encode_position(position));
    return request;
  }
  void report(const std::string& name, uint64_t sequence) {
    const auto done = registry_.report(request(name, sequence), record_.leader(), kCommitted, now_);
    ASSERT_TRUE(done) << done.error().message();
  }
  static constexpr uint64_t kCommitted = 10'000;
  MonotonicTime now_ = MonotonicTime(1h);
  pb::Leadership record_;
  StandbyRegistry registry_;
};

TEST_F(StandbyRegistryTest, PlansAreByWhoLeadsAndWhoIsCaughtUp) {
  EXPECT_EQ(registry_.plan(record_, now_), "C") << "nobody stands by";
  report("near", kCommitted - kCaughtUpEntries - 1);
  EXPECT_EQ(registry_.plan(record_, now_), "C") << "it has not caught up";
  report("near", kCommitted - kCaughtUpEntries);
  EXPECT_EQ(registry_.plan(record_, now_), "A");
  record_.set_leader("near");
  EXPECT_EQ(registry_.plan(record_, now_), "C") << "the leader is no standby of its own";
  report("home", kCommitted);
  EXPECT_EQ(registry_.plan(record_, now_), "B");
  now_ += kStandbySilentMax + 1ms;
  EXPECT_EQ(registry_.plan(record_, now_), "C");
}

TEST_F(StandbyRegistryTest, ALoneDaemonHasNoPlan) {
  pb::Leadership alone;
  *alone.add_daemons() = record_.daemons(0);
  alone.set_leader(alone.daemons(0).name());
  EXPECT_EQ(registry_.plan(alone, now_), "");
}

TEST_F(StandbyRegistryTest, TheFirstThatIsCaughtUpIsPreferred) {
  EXPECT_EQ(registry_.preferred(record_, now_), std::nullopt);
  record_.set_leader("far");
  EXPECT_EQ(registry_.preferred(record_, now_), std::nullopt);
  report("near", kCommitted);
  EXPECT_EQ(registry_.preferred(record_, now_), "near");
  report("home", kCommitted - kCaughtUpEntries - 1);
  EXPECT_EQ(registry_.preferred(record_, now_), "near");
  report("home", kCommitted);
  EXPECT_EQ(registry_.preferred(record_, now_), "home");
  record_.set_leader("home");
  EXPECT_EQ(registry_.preferred(record_, now_), std::nullopt);
}

TEST_F(StandbyRegistryTest, AnEqualOrderIsNoReasonToMove) {
  for (auto& daemon : *record_.mutable_daemons()) daemon.set_order(0);
  record_.set_leader("near");
  report("far", kCommitted);
  report("home", kCommitted);
  EXPECT_EQ(registry_.preferred(record_, now_), std::nullopt);
  EXPECT_EQ(registry_.plan(record_, now_), "A");
}

TEST_F(StandbyRegistryTest, OneThatIsSilentIsMissedForAWhile) {
  const auto began = now_;
  EXPECT_FALSE(registry_.misses_one(record_, began, 10min, now_ + 700ms));
  EXPECT_TRUE(registry_.misses_one(record_, began, 10min, now_ + 701ms)) << "never heard of here";
  EXPECT_FALSE(registry_.misses_one(record_, began, 10min, now_ + 11min));
  now_ += 11min;
  report("near", kCommitted);
  EXPECT_FALSE(registry_.misses_one(record_, began, 10min, now_ + 700ms));
  EXPECT_TRUE(registry_.misses_one(record_, began, 10min, now_ + 701ms));
}

TEST_F(StandbyRegistryTest, ReportsAreChecked) {
  const auto refused = [&](const pb::LeaderRequest& request) {
    const auto done = registry_.report(request, "home", kCommitted, now_);
    return done ? std::string() : done.error().text();
  };
  EXPECT_NE(refused(request("", 1)), "");
  EXPECT_NE(refused(request(std::string(65, 'x'), 1)), "");
  EXPECT_NE(refused(request("home", 1)).find("home"), std::string::npos);
  auto many = request("x", 1);
  for (int i = 0; i < 9; ++i) many.add_addresses("tls://x:1");
  EXPECT_NE(refused(many), "");
  auto huge = request("x", 1);
  huge.add_addresses(std::string(257, 'x'));
  EXPECT_NE(refused(huge), "");
  auto garbled = request("x", 1);
  garbled.set_position("short");
  EXPECT_NE(refused(garbled), "");
  for (size_t i = 0; i < kDaemonsMax; ++i)
    EXPECT_EQ(refused(request("x" + std::to_string(i), 1)), "");
  EXPECT_NE(refused(request("one more", 1)), "");
}

TEST_F(StandbyRegistryTest, TheRecordIsInOrderAndBounded) {
  EXPECT_EQ(leadership_problem(record_), "");
  EXPECT_EQ(record_.daemons(0).name(), "far");
  auto same = record_.daemons(0);
  EXPECT_FALSE(note_daemon(record_, same).value());
  same.set_order(9);
  EXPECT_TRUE(note_daemon(record_, same).value());
  EXPECT_EQ(record_.daemons_size(), 3);
  for (int i = 3; i < static_cast<int>(kDaemonsMax); ++i) note("x" + std::to_string(i), 1);
  pb::Leadership::Daemon more;
  more.set_name("zz");
  EXPECT_FALSE(note_daemon(record_, more));
  EXPECT_EQ(leadership_problem(record_), "");
  const auto known = known_daemons(record_);
  ASSERT_EQ(known.size(), kDaemonsMax);
  EXPECT_EQ(std::count_if(known.begin(), known.end(), [](const auto& d) { return d.leads; }), 1);
}

TEST_F(StandbyRegistryTest, ARecordThatIsDamagedIsTold) {
  auto damaged = record_;
  damaged.set_leader("nobody");
  EXPECT_NE(leadership_problem(damaged), "");
  damaged = record_;
  *damaged.add_daemons() = damaged.daemons(0);
  EXPECT_NE(leadership_problem(damaged), "");
  EXPECT_EQ(leadership_problem({}), "");
}

}  // namespace
}  // namespace datacloud
