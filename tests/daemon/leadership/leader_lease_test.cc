// The arithmetic of the leader's lease, and the logs whose answers confirm it.
#include "daemon/leadership/leader_lease.h"

#include <thread>

#include "daemon/journal/guarded_log.h"
#include "daemon/leadership/confirming_log.h"
#include "tests/daemon/journal/log_site.h"

namespace datacloud {
namespace {

using namespace std::chrono_literals;

class LeaderLeaseTest : public ::testing::Test {
 protected:
  BootTime at(Duration since) const { return BootTime(1000s) + since; }
  BootTime now_ = at(0s);
  LeaderLease lease_{5, 3, 1500ms, [this] { return now_; }};
};

TEST_F(LeaderLeaseTest, HoldsOnceAQuorumHasConfirmed) {
  EXPECT_FALSE(lease_.holds());
  lease_.confirm(0, at(0s));
  lease_.confirm(3, at(0s));
  lease_.confirm(3, at(1s));
  EXPECT_FALSE(lease_.holds()) << "two sites are no quorum of five";
  lease_.confirm(4, at(0s));
  EXPECT_TRUE(lease_.holds());
}

TEST_F(LeaderLeaseTest, LastsFromTheOldestOfTheNewestQuorum) {
  lease_.confirm(0, at(0s));
  lease_.confirm(1, at(400ms));
  lease_.confirm(2, at(800ms));
  now_ = at(1499ms);
  EXPECT_TRUE(lease_.holds());
  now_ = at(1500ms);
  EXPECT_FALSE(lease_.holds()) << "the first of them was asked at 0";
  lease_.confirm(4, at(600ms));
  EXPECT_TRUE(lease_.holds()) << "400, 600 and 800";
  now_ = at(1899ms);
  EXPECT_TRUE(lease_.holds());
  now_ = at(1900ms);
  EXPECT_FALSE(lease_.holds());
}

TEST_F(LeaderLeaseTest, AnAnswerThatComesLateTakesNothingBack) {
  for (size_t site = 0; site < 3; ++site) lease_.confirm(site, at(1s));
  for (size_t site = 0; site < 3; ++site) lease_.confirm(site, at(0s));
  now_ = at(2s);
  EXPECT_TRUE(lease_.holds());
}

TEST_F(LeaderLeaseTest, WithoutALengthItAlwaysHolds) {
  lease_.set_length(0s);
  EXPECT_TRUE(lease_.holds());
  lease_.set_length(1500ms);
  EXPECT_FALSE(lease_.holds());
}

TEST_F(LeaderLeaseTest, OnceEndedItNeverHoldsAgain) {
  for (size_t site = 0; site < 5; ++site) lease_.confirm(site, at(0s));
  EXPECT_TRUE(lease_.holds());
  lease_.end();
  EXPECT_FALSE(lease_.holds());
  for (size_t site = 0; site < 5; ++site) lease_.confirm(site, at(1s));
  lease_.set_length(0s);
  EXPECT_FALSE(lease_.holds());
}

TEST(BootClock, GoesOn) {
  const auto before = BootClock::now();
  std::this_thread::sleep_for(2ms);
  EXPECT_GT(BootClock::now(), before);
  EXPECT_EQ(claimer_patience(1500ms), 1650ms);
}

// Sites in memory, and a leader's logs there.
class ConfirmingLogTest : public ::testing::Test {
 protected:
  ConfirmingLogTest() {
    for (size_t i = 0; i < 3; ++i) {
      sites_.push_back(make_guarded_memory());
      auto objects = open_guarded_memory(sites_[i]);
      EXPECT_TRUE(journal::format_guarded_log(*objects, {journal::test_journal(), 1 << 20}));
      raw_.push_back(open(i));
      logs_.push_back(make_confirming_log(raw_[i], i, confirmations_));
    }
  }
  std::shared_ptr<journal::LogStore> open(size_t site) {
    return journal::make_guarded_log(open_guarded_memory(sites_[site]),
                                     {journal::test_journal(), 1 << 20});
  }
  template <class Condition>
  static bool eventually(Condition condition) {
    for (int i = 0; i < 60'000 && !condition(); ++i) std::this_thread::sleep_for(1ms);
    return condition();
  }

  BootTime now_ = BootTime(1000s);
  const std::shared_ptr<LeaderLease> lease_ =
      std::make_shared<LeaderLease>(3, 2, 1500ms, [this] { return now_; });
  const std::shared_ptr<LeaseConfirmations> confirmations_ =
      std::make_shared<LeaseConfirmations>(lease_);
  std::vector<std::shared_ptr<GuardedMemory>> sites_;
  std::vector<std::shared_ptr<journal::LogStore>> raw_, logs_;
};

TEST_F(ConfirmingLogTest, AppendsConfirm) {
  confirmations_->lead({3, 9});
  journal::Leader leader(*logs_[1], {3, 9});
  ASSERT_OK(leader.lead());
  EXPECT_EQ(lease_->confirmed_at(1), BootTime()) << "a claim is no confirmation";
  ASSERT_OK(leader.append());
  EXPECT_EQ(lease_->confirmed_at(1), now_);
}

TEST_F(ConfirmingLogTest, AppendsThatAreRefusedDoNot) {
  confirmations_->lead({3, 9});
  journal::Leader leader(*logs_[0], {3, 9});
  ASSERT_OK(leader.lead());
  ASSERT_TRUE(open(0)->claim({4, 1}));
  EXPECT_REFUSED(Errc::stale, leader.append());
  EXPECT_EQ(lease_->confirmed_at(0), BootTime());
}

TEST_F(ConfirmingLogTest, HeadsConfirmTheOwnPromiseAlone) {
  confirmations_->lead({3, 9});
  journal::LogHead head;
  head.promised = {3, 9};
  EXPECT_FALSE(confirmations_->showed(0, head, now_));
  EXPECT_EQ(lease_->confirmed_at(0), now_);
  head.promised = {2, 9};
  EXPECT_FALSE(confirmations_->showed(1, head, now_)) << "a server that has forgotten";
  head = {.promised = {3, 9}, .sealed = true};
  EXPECT_FALSE(confirmations_->showed(1, head, now_));
  EXPECT_EQ(lease_->confirmed_at(1), BootTime());
  head = {.promised = {3, 10}};
  const auto higher = confirmations_->showed(1, head, now_);
  ASSERT_TRUE(higher);
  EXPECT_EQ(*higher, (journal::Epoch{3, 10}));
  EXPECT_EQ(lease_->confirmed_at(1), BootTime());
}

TEST_F(ConfirmingLogTest, TheKeeperAsksUntilTheLeaseHoldsAndTellsOfAHigherPromise) {
  for (auto& log : raw_) ASSERT_TRUE(log->claim({3, 9}));
  confirmations_->lead({3, 9});
  std::atomic<int> told{0};
  LeaseKeeper keeper(raw_, confirmations_, [&](const Error& error) {
    EXPECT_TRUE(error.is(Errc::stale));
    ++told;
  });
  EXPECT_TRUE(eventually([&] { return lease_->holds(); }));
  EXPECT_EQ(told, 0);
  ASSERT_TRUE(open(2)->claim({4, 1}));
  now_ += 600ms;
  keeper.wake();
  EXPECT_TRUE(eventually([&] { return told == 1; }));
}

TEST_F(ConfirmingLogTest, TheKeeperIsSilentWhileNoLeaseIsKept) {
  for (auto& log : raw_) ASSERT_TRUE(log->claim({3, 9}));
  confirmations_->lead({3, 9});
  lease_->set_length(0s);
  LeaseKeeper keeper(raw_, confirmations_, [](const Error&) {});
  std::this_thread::sleep_for(20ms);
  EXPECT_EQ(lease_->confirmed_at(0), BootTime());
  lease_->set_length(1500ms);
  keeper.wake();
  EXPECT_TRUE(eventually([&] { return lease_->holds(); }));
}

}  // namespace
}  // namespace datacloud
