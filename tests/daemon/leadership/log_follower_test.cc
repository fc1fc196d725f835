// A standby's store that follows a journal: it has what is committed and nothing else, whatever is
// superseded, whoever led before, and wherever it is cut off.
#include "daemon/leadership/log_follower.h"

#include "daemon/metadata/record_keys.h"
#include "tests/daemon/metadata/journal_rig.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

using journal::LogEntry;
using Records = std::map<std::string, std::string>;

class LogFollowerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(leader_.start());
    ASSERT_TRUE(standby_.open());
    follow();
  }
  void follow() {
    auto opened = LogFollower::open(*standby_.store, journal_->id(), journal_test_key());
    ASSERT_TRUE(opened) << opened.error().message();
    follower_.emplace(std::move(opened).value());
  }
  // Everything that a site has, `most` entries at a time.
  void feed(size_t most = SIZE_MAX) {
    for (int rounds = 0; rounds < 1000; ++rounds) {
      const auto fed = follower_->feed(behind(most));
      ASSERT_TRUE(fed) << fed.error().message();
      if (fed.value() == LogFollower::Fed::nothing) return;
    }
    FAIL() << "it never has enough";
  }
  std::vector<LogEntry> behind(size_t most = SIZE_MAX) const {
    const auto& all = journal_->entries();
    std::vector<LogEntry> out;
    for (size_t i = follower_->next() - 1; i < all.size() && out.size() < most; ++i)
      out.push_back(all[i]);
    return out;
  }
  void expect_applied_to_end() {
    EXPECT_EQ(standby_.records(), leader_.records());
    EXPECT_EQ(standby_.store->sequence(), leader_.store->sequence());
  }

  std::shared_ptr<SimulatedFiles> disk_ = std::make_shared<SimulatedFiles>();
  std::shared_ptr<journal::MemoryJournal> journal_ = make_memory_journal();
  JournalRig leader_{disk_, "a", journal_};
  JournalRig standby_{disk_, "b", journal_};
  std::optional<LogFollower> follower_;
};

TEST_F(LogFollowerTest, WhatALaterEntryCallsCommittedIsApplied) {
  ASSERT_TRUE(leader_.put("Za", "1"));
  ASSERT_TRUE(leader_.put("Zb", "2"));
  feed();
  EXPECT_EQ(standby_.records(), (Records{{"Za", "1"}})) << "nothing tells of the last one yet";
  EXPECT_EQ(follower_->seen(), leader_.committer().last());
  ASSERT_TRUE(follower_->told_committed(journal_->entries().back().position()));
  expect_applied_to_end();
  EXPECT_EQ(follower_->applied(), leader_.committer().last());
}

TEST_F(LogFollowerTest, WhatTheLeaderSaysOfAnotherHistoryDoesNotCount) {
  ASSERT_TRUE(leader_.put("Za", "1"));
  feed();
  auto wrong = journal_->entries().back().position();
  wrong.hash[0] ^= 1;
  ASSERT_TRUE(follower_->told_committed(wrong));
  wrong.sequence += 7;
  ASSERT_TRUE(follower_->told_committed(wrong));
  EXPECT_EQ(standby_.records(), Records{});
}

TEST_F(LogFollowerTest, WhatIsSupersededWasNeverApplied) {
  ASSERT_TRUE(leader_.put("Za", "1"));
  journal_->hold(true);
  ASSERT_TRUE(leader_.put("Za", "lost"));
  ASSERT_TRUE(leader_.put("Zlost", "1"));
  feed();
  journal_->lose(2);
  journal_->hold(false);
  JournalRig other(disk_, "c", journal_);
  ASSERT_TRUE(other.start());
  ASSERT_TRUE(other.put("Zother", "1"));
  ASSERT_TRUE(other.put("Zmore", "1"));
  feed();
  EXPECT_EQ(standby_.records(), (Records{{"Za", "1"}, {"Zother", "1"}}));
  EXPECT_EQ(follower_->undone(), 0u);
}

TEST_F(LogFollowerTest, AShorterLogOfAnotherHistoryIsFollowedOnceTheLeaderTells) {
  journal_->hold(true);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(leader_.put("Zlost", "1"));
  feed();
  journal_->lose(5);
  journal_->hold(false);
  JournalRig other(disk_, "c", journal_);
  ASSERT_TRUE(other.start());
  ASSERT_TRUE(other.put("Za", "1"));
  feed();
  EXPECT_GT(follower_->next(), journal_->entries().size()) << "nothing has told it yet";
  ASSERT_TRUE(follower_->told_committed(journal_->entries().back().position()));
  feed();
  ASSERT_TRUE(follower_->told_committed(journal_->entries().back().position()));
  EXPECT_EQ(standby_.records(), (Records{{"Za", "1"}}));
}

TEST_F(LogFollowerTest, WhatAFormerLeaderHasBesideTheLogIsTakenBack) {
  standby_.kill();
  ASSERT_TRUE(standby_.start());
  ASSERT_TRUE(standby_.put("Za", "1"));
  journal_->hold(true);
  ASSERT_TRUE(standby_.put("Za", "2"));
  ASSERT_TRUE(standby_.put("Zb", "2"));
  journal_->lose(2);
  journal_->hold(false);
  standby_.kill();
  leader_.kill();
  ASSERT_TRUE(standby_.open());
  follow();
  feed();
  EXPECT_EQ(standby_.records(), (Records{{"Za", "2"}, {"Zb", "2"}})) << "nobody has led since";
  ASSERT_TRUE(leader_.start());
  feed();
  EXPECT_EQ(standby_.records(), (Records{{"Za", "2"}, {"Zb", "2"}}));
  ASSERT_TRUE(leader_.put("Zc", "3"));
  ASSERT_TRUE(leader_.put("Zd", "3"));
  feed();
  EXPECT_EQ(follower_->undone(), 2u);
  EXPECT_EQ(standby_.records(), (Records{{"Za", "1"}, {"Zc", "3"}}));
}

TEST_F(LogFollowerTest, ALogThatWasTrimmedOrIsOfAnotherHistoryIsRefused) {
  ASSERT_TRUE(leader_.put("Za", "1"));
  feed();
  ASSERT_TRUE(follower_->told_committed(journal_->entries().back().position()));
  // Another history: a journal of the same cloud that began anew.
  const auto other = make_memory_journal();
  JournalRig rig(disk_, "d", other);
  ASSERT_TRUE(rig.start());
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(rig.put("Zx", std::to_string(i)));
  const std::vector<LogEntry> theirs(
      other->entries().begin() + static_cast<std::ptrdiff_t>(follower_->next() - 1),
      other->entries().end());
  const auto fed = follower_->feed(theirs);
  ASSERT_FALSE(fed);
  EXPECT_TRUE(fed.error().is(Errc::not_found)) << fed.error().message();
  EXPECT_EQ(standby_.records(), (Records{{"Za", "1"}})) << "nothing has changed";
  follower_->restart();
  ASSERT_TRUE(leader_.put("Zb", "1"));
  feed();
  ASSERT_TRUE(follower_->told_committed(journal_->entries().back().position()));
  expect_applied_to_end();
}

TEST_F(LogFollowerTest, WhatIsNotSealedByTheCloudIsRefused) {
  ASSERT_TRUE(leader_.put("Za", "1"));
  auto entries = behind();
  journal::EntryHeader forged;
  forged.kind = journal::EntryKind::opening;
  forged.journal = journal_->id();
  forged.epoch = entries.back().header.epoch;
  forged.sequence = entries.back().header.sequence + 1;
  forged.committed = entries.back().header.sequence;
  forged.previous = entries.back().hash;
  entries.push_back(journal::encode_entry(forged, Bytes(16, 1)).value());
  const auto fed = follower_->feed(entries);
  ASSERT_FALSE(fed);
  EXPECT_TRUE(fed.error().is(Errc::corrupt));
  EXPECT_EQ(standby_.records(), Records{}) << "a site cannot call an entry committed";
}

TEST_F(LogFollowerTest, ATransactionOfSeveralEntriesIsOneStep) {
  auto txn = leader_.store->begin();
  for (int i = 0; i < 3; ++i)
    txn.put("Zbig" + std::to_string(i), std::string(size_t{3} << 20, static_cast<char>('a' + i)));
  ASSERT_TRUE(leader_.committer().apply(std::move(txn)));
  feed(1);
  EXPECT_EQ(follower_->transactions(), 0u);
  ASSERT_TRUE(follower_->told_committed(journal_->entries().back().position()));
  EXPECT_EQ(follower_->transactions(), 1u);
  expect_applied_to_end();
}

TEST_F(LogFollowerTest, ItGoesOnWhereItWasCutOff) {
  for (int i = 0; i < 40; ++i) {
    ASSERT_TRUE(leader_.put("Z" + std::to_string(i % 7), std::to_string(i)));
    if (i % 5 == 0) feed(3);
    if (i % 9 == 0) {
      follower_.reset();
      standby_.kill();
      ASSERT_TRUE(standby_.open());
      follow();
    }
  }
  feed();
  ASSERT_TRUE(follower_->told_committed(journal_->entries().back().position()));
  expect_applied_to_end();
}

TEST_F(LogFollowerTest, ItTellsOfChangesOfTheSites) {
  feed();
  EXPECT_FALSE(follower_->take_sites_changed());
  pb::Cloud cloud;
  auto txn = leader_.store->begin();
  ASSERT_TRUE(txn.get(key::meta("cloud"), cloud).value());
  txn.put(key::meta("cloud"), cloud);
  ASSERT_TRUE(leader_.committer().apply(std::move(txn)));
  feed();
  ASSERT_TRUE(follower_->told_committed(journal_->entries().back().position()));
  EXPECT_TRUE(follower_->take_sites_changed());
  EXPECT_FALSE(follower_->take_sites_changed());
}

TEST_F(LogFollowerTest, ATakeOverFindsNothingToTakeBack) {
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(leader_.put("Z" + std::to_string(i), "1"));
  feed();
  follower_.reset();
  const auto records = leader_.records();
  ASSERT_TRUE(standby_.start());
  EXPECT_EQ(standby_.started.undone, 0u);
  EXPECT_EQ(standby_.started.replayed, 1u) << "the last one";
  EXPECT_EQ(standby_.records(), records);
}

// Leaders that change, lose what reached no quorum and are trimmed by nobody; a follower that is
// cut off now and then. What it has applied is always a prefix of what is committed.
TEST(LogFollowerRandomTest, IsNeverAheadOfWhatIsCommitted) {
  Seeded random;
  for (int round = 0; round < 12; ++round) {
    const auto disk = std::make_shared<SimulatedFiles>();
    const auto memory = make_memory_journal();
    JournalRig a(disk, "a", memory), b(disk, "b", memory), c(disk, "c", memory);
    JournalRig* leads = &a;
    ASSERT_TRUE(a.start());
    ASSERT_TRUE(c.open());
    std::optional<LogFollower> follower;
    const auto follow = [&] {
      auto opened = LogFollower::open(*c.store, memory->id(), journal_test_key());
      ASSERT_TRUE(opened);
      follower.emplace(std::move(opened).value());
    };
    follow();
    uint64_t held = 0;
    for (int step = 0; step < 120; ++step) {
      switch (random.number(0, 9)) {
        case 0:
          memory->hold(random.number(0, 1) == 1);
          break;
        case 1:
          memory->release();
          break;
        case 2: {
          memory->lose(random.number(0, memory->uncommitted()));
          leads->kill();
          leads = leads == &a ? &b : &a;
          leads->kill();
          memory->hold(false);
          ASSERT_TRUE(leads->start());
          break;
        }
        case 3:
          follower.reset();
          c.kill();
          ASSERT_TRUE(c.open());
          follow();
          break;
        case 4:
        case 5:
        case 6: {
          std::vector<LogEntry> some;
          const uint64_t most = random.number(1, 8);
          for (size_t i = follower->next() - 1; i < memory->entries().size() && some.size() < most;
               ++i)
            some.push_back(memory->entries()[i]);
          const auto fed = follower->feed(some);
          ASSERT_TRUE(fed) << fed.error().message();
          if (random.number(0, 2) == 0) {
            ASSERT_TRUE(follower->told_committed(leads->committer().log().committed()));
          }
          break;
        }
        default:
          ASSERT_TRUE(
              leads->put("Z" + std::to_string(random.number(0, 9)), std::to_string(++held)));
      }
      // Its position is one of the log's, and committed.
      const auto applied = c.store->journal_position();
      ASSERT_LE(applied.sequence, leads->committer().log().committed().sequence);
      if (applied.sequence > 0) {
        ASSERT_EQ(applied, memory->entries()[applied.sequence - 1].position());
      }
    }
    memory->release();
    memory->hold(false);
    // The leader tells where it is; what was superseded is given up then, or when the log goes on.
    for (int i = 0; i < 1000 && follower->applied() != memory->entries().back().position(); ++i) {
      std::vector<LogEntry> rest;
      for (size_t at = follower->next() - 1; at < memory->entries().size(); ++at)
        rest.push_back(memory->entries()[at]);
      ASSERT_TRUE(follower->feed(rest));
      ASSERT_TRUE(follower->told_committed(memory->entries().back().position()));
    }
    EXPECT_EQ(c.records(), leads->records());
    EXPECT_EQ(follower->undone(), 0u);
  }
}

}  // namespace
}  // namespace datacloud
