// A standby over three sites in memory: it follows, and says when it is to lead and when not.
#include "daemon/leadership/standby.h"

#include <array>
#include <thread>

#include "daemon/journal/guarded_log.h"
#include "daemon/metadata/record_keys.h"
#include "tests/daemon/metadata/journal_rig.h"

namespace datacloud {
namespace {

constexpr size_t kSites = 3;
constexpr Duration kSilence = milliseconds(60);

class StandbyTest : public ::testing::Test {
 protected:
  StandbyTest() {
    for (auto& site : memory_) {
      site = make_guarded_memory();
      const auto objects = open_guarded_memory(site);
      EXPECT_TRUE(journal::format_guarded_log(*objects, log_options()));
    }
  }
  void SetUp() override {
    ASSERT_TRUE(leader_.start());
    ASSERT_TRUE(standby_.open());
  }
  static journal::GuardedLogOptions log_options() {
    return {.journal = journal_id(kJournalCloud).value(), .segment_bytes = 64 << 10};
  }
  std::vector<journal::JournalMember> members() {
    std::vector<journal::JournalMember> out;
    for (size_t i = 0; i < kSites; ++i) {
      out.push_back(
          {.site = static_cast<int>(i + 1),
           .name = "site" + std::to_string(i + 1),
           .log = journal::make_guarded_log(open_guarded_memory(memory_[i]), log_options())});
    }
    return out;
  }
  result<std::shared_ptr<journal::QuorumLog>> claim(std::function<void(const Error&)> fenced) {
    journal::QuorumLogOptions options;
    options.journal = journal_id(kJournalCloud).value();
    options.rules = journal::quorum_rules(kSites, 1);
    options.members = members();
    options.fenced = std::move(fenced);
    TRY(auto log, journal::QuorumLog::claim(std::move(options)));
    return std::shared_ptr<journal::QuorumLog>(std::move(log));
  }
  // The leader's, "a", and this standby's, "b".
  void note(bool with_standby, uint32_t lease_ms = 100) {
    pb::Leadership record;
    for (const char* name : {"a", "b"}) {
      if (name == std::string("b") && !with_standby) continue;
      auto* daemon = record.add_daemons();
      daemon->set_name(name);
      daemon->add_addresses("unix:/nonexistent/" + std::string(name));
    }
    record.set_leader("a");
    record.set_epoch(leader_.committer().log().epoch().number);
    record.set_lease_ms(lease_ms);
    auto txn = leader_.store->begin();
    txn.put(key::meta(kLeadershipRecord), record);
    ASSERT_TRUE(leader_.committer().apply(std::move(txn)));
    ASSERT_TRUE(leader_.put("Zmore", "1")) << "so that the one before is known to be committed";
    ASSERT_TRUE(leader_.put("Zmore", "2"));
    ASSERT_TRUE(leader_.committer().wait_durable(seconds(60)));
    ASSERT_TRUE(leader_.put("Zmore", "3"));
    ASSERT_TRUE(leader_.committer().wait_durable(seconds(60)));
  }
  // `patience`: then it is asked to stop.
  Standby::End run(Duration patience = std::chrono::minutes(2)) {
    const auto until = monotonic_now() + patience;
    Standby::Options options{.store = *standby_.store};
    options.journal = journal_id(kJournalCloud).value();
    options.metadata_key = journal_test_key();
    options.members = members();
    options.adopt = 2;
    options.link.self.set_name("b");
    options.link.silence = kSilence;
    options.rules.silence = kSilence;
    options.stopped = [until] { return monotonic_now() >= until; };
    options.alive = [this] { ++signs_; };
    options.tell = [this](const StandbyState& state) { state_ = state; };
    Standby standby(std::move(options));
    const auto end = standby.run();
    EXPECT_TRUE(end) << end.error().message();
    return end ? end.value() : Standby::End::stopped;
  }

  std::array<std::shared_ptr<GuardedMemory>, kSites> memory_;
  std::shared_ptr<SimulatedFiles> disk_ = std::make_shared<SimulatedFiles>();
  JournalRig leader_{disk_, "a", [this](auto fenced) { return claim(fenced); }};
  JournalRig standby_{disk_, "b", [this](auto fenced) { return claim(fenced); }};
  int signs_ = 0;
  StandbyState state_;
};

TEST_F(StandbyTest, TakesOverWhenTheLeaderIsSilentAndHasAllThatWasCommitted) {
  for (int i = 0; i < 30; ++i) ASSERT_TRUE(leader_.put("Z" + std::to_string(i), "1"));
  note(true);
  const auto records = leader_.records();
  EXPECT_EQ(run(), Standby::End::take_over);
  EXPECT_GT(signs_, 0);
  EXPECT_EQ(state_.leader, "a");
  EXPECT_FALSE(state_.leader_answers);
  EXPECT_TRUE(state_.noted);
  ASSERT_TRUE(standby_.start());
  EXPECT_EQ(standby_.started.undone, 0u);
  EXPECT_LE(standby_.started.replayed, 2u);
  EXPECT_EQ(standby_.records(), records);
}

TEST_F(StandbyTest, OneThatWasNotNotedNeverTakesOver) {
  note(false);
  EXPECT_EQ(run(seconds(1)), Standby::End::stopped);
  EXPECT_FALSE(state_.noted);
  EXPECT_EQ(state_.leader, "a");
}

TEST_F(StandbyTest, WhoeverHasJustClaimedIsNotDisturbed) {
  note(true, 60'000);
  leader_.kill();
  ASSERT_TRUE(leader_.start()) << "another epoch than the record's";
  EXPECT_EQ(run(seconds(1)), Standby::End::stopped);
}

TEST_F(StandbyTest, APromiseAloneIsASignOfSomebodyWhoBegins) {
  note(true, 60'000);
  for (auto& member : members()) ASSERT_TRUE(member.log->claim({77, 7}));
  EXPECT_EQ(run(seconds(1)), Standby::End::stopped);
}

TEST_F(StandbyTest, WithoutAnyRecordItWaitsLongerAndLeads) {
  ASSERT_TRUE(leader_.put("Za", "1"));
  const auto began = monotonic_now();
  EXPECT_EQ(run(), Standby::End::take_over);
  EXPECT_GE(monotonic_now() - began, 3 * kSilence);
}

TEST_F(StandbyTest, AStoreBelowTheFloorIsToBeRebuilt) {
  for (int i = 0; i < 60; ++i) ASSERT_TRUE(leader_.put("Zbig", std::string(8000, 'x')));
  note(true);
  leader_.committer().trim(50);
  // As long as sites have entries of before, the standby has something to follow.
  for (auto& member : members()) {
    while (member.log->read(1, 1)) std::this_thread::sleep_for(milliseconds(1));
  }
  EXPECT_EQ(run(), Standby::End::rebuild);
}

TEST_F(StandbyTest, ChangesOfTheSitesAreTold) {
  pb::Cloud cloud;
  auto txn = leader_.store->begin();
  ASSERT_TRUE(txn.get(key::meta("cloud"), cloud).value());
  txn.put(key::meta("cloud"), cloud);
  ASSERT_TRUE(leader_.committer().apply(std::move(txn)));
  note(true);
  EXPECT_EQ(run(), Standby::End::sites_changed);
  EXPECT_EQ(run(), Standby::End::take_over) << "once";
}

TEST(NobodyListens, AtASocketThatIsNotThere) {
  EXPECT_TRUE(nobody_listens({"unix:/nonexistent/socket"}));
  EXPECT_TRUE(nobody_listens({"unix:/nonexistent/socket", "tls://127.0.0.1:1"}));
  EXPECT_TRUE(nobody_listens({}));
}

}  // namespace
}  // namespace datacloud
