// Bringing store and journal together: what every kind of crash leaves, of one daemon and of two
// that lead in turn, against a model of the transactions.
#include "daemon/metadata/journal_start.h"

#include <gtest/gtest.h>

#include "daemon/metadata/record_keys.h"
#include "tests/daemon/metadata/journal_model.h"
#include "tests/daemon/metadata/journal_rig.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

using Records = std::map<std::string, std::string>;

class JournalStartTest : public ::testing::Test {
 protected:
  void restart() {
    rig_.kill();
    ASSERT_TRUE(rig_.start());
  }
  std::shared_ptr<SimulatedFiles> disk_ = std::make_shared<SimulatedFiles>();
  std::shared_ptr<journal::MemoryJournal> journal_ = make_memory_journal();
  JournalRig rig_{disk_, "a", journal_};
};

TEST_F(JournalStartTest, AFirstStartLeadsAnEmptyJournal) {
  ASSERT_TRUE(rig_.start());
  ASSERT_EQ(journal_->entries().size(), 1u);
  EXPECT_EQ(journal_->entries()[0].header.kind, journal::EntryKind::opening);
  EXPECT_EQ(rig_.started.replayed + rig_.started.undone + rig_.started.kept, 0u);
}

TEST_F(JournalStartTest, AfterACleanEndThereIsNothingToDo) {
  ASSERT_TRUE(rig_.start());
  ASSERT_TRUE(rig_.put("Za", "1"));
  restart();
  EXPECT_EQ(rig_.started.replayed + rig_.started.undone + rig_.started.kept, 0u);
  EXPECT_EQ(rig_.records(), (Records{{"Za", "1"}}));
}

TEST_F(JournalStartTest, WhatAPowerCutTookFromTheStoreIsReplayed) {
  ASSERT_TRUE(rig_.start());
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(rig_.put("Z" + std::to_string(i), "1"));
  const auto all = rig_.records();
  const Sequence sequence = rig_.store->sequence();
  disk_->fail_power_at(disk_->change_count());
  rig_.kill();
  disk_->power_cut(1);
  ASSERT_TRUE(rig_.start());
  EXPECT_EQ(rig_.records(), all);
  EXPECT_EQ(rig_.store->sequence(), sequence);
}

TEST_F(JournalStartTest, WhatReachedNoQuorumStaysWhenNobodyElseHasLed) {
  ASSERT_TRUE(rig_.start());
  ASSERT_TRUE(rig_.put("Za", "1"));
  journal_->hold(true);
  ASSERT_TRUE(rig_.put("Za", "2"));
  ASSERT_TRUE(rig_.put("Zb", "3"));
  journal_->lose(2);
  restart();
  EXPECT_EQ(rig_.started.kept, 2u);
  EXPECT_EQ(rig_.records(), (Records{{"Za", "2"}, {"Zb", "3"}}));
  journal_->release();
  // Another store learns it from the journal: the net effect, as one transaction.
  JournalRig other(disk_, "b", journal_);
  ASSERT_TRUE(other.start());
  EXPECT_EQ(other.started.replayed, 2u);
  EXPECT_EQ(other.records(), rig_.records());
  EXPECT_EQ(other.store->sequence(), rig_.store->sequence());
}

TEST_F(JournalStartTest, WhatWasPutInAgainAndLostOnceMoreStays) {
  ASSERT_TRUE(rig_.start());
  journal_->hold(true);
  ASSERT_TRUE(rig_.put("Za", "1"));
  for (int i = 0; i < 3; ++i) {
    journal_->lose(journal_->uncommitted());
    restart();
    EXPECT_EQ(rig_.started.kept, 1u);
    EXPECT_EQ(rig_.records(), (Records{{"Za", "1"}}));
  }
}

TEST_F(JournalStartTest, WhatReachedNoQuorumIsTakenBackWhenAnotherHasLedSince) {
  ASSERT_TRUE(rig_.start());
  ASSERT_TRUE(rig_.put("Za", "1"));
  ASSERT_TRUE(rig_.put("Zgone", "1"));
  journal_->hold(true);
  ASSERT_TRUE(rig_.put("Za", "2"));
  auto txn = rig_.store->begin();
  txn.erase("Zgone");
  txn.put("Znew", std::string("1"));
  ASSERT_TRUE(rig_.committer().apply(std::move(txn)));
  journal_->lose(2);
  journal_->hold(false);
  JournalRig other(disk_, "b", journal_);
  ASSERT_TRUE(other.start());
  ASSERT_TRUE(other.put("Zother", "1"));
  rig_.drain();
  EXPECT_EQ(rig_.fatal.size(), 1u) << "it was told that it does not lead any more";
  restart();
  EXPECT_EQ(rig_.started.undone, 2u);
  EXPECT_EQ(rig_.started.kept, 0u);
  EXPECT_EQ(rig_.records(), (Records{{"Za", "1"}, {"Zgone", "1"}, {"Zother", "1"}}));
}

TEST_F(JournalStartTest, AnOpeningOfAnotherThatChangedNothingTakesNothingBack) {
  ASSERT_TRUE(rig_.start());
  journal_->hold(true);
  ASSERT_TRUE(rig_.put("Za", "1"));
  journal_->lose(1);
  journal_->hold(false);
  JournalRig other(disk_, "b", journal_);
  ASSERT_TRUE(other.start());
  restart();
  EXPECT_EQ(rig_.started.kept, 1u);
  EXPECT_EQ(rig_.records(), (Records{{"Za", "1"}}));
}

TEST_F(JournalStartTest, AStoreFromAnOldBackupCatchesUp) {
  JournalRig old(disk_, "old", journal_);
  ASSERT_TRUE(rig_.start());
  for (int i = 0; i < 50; ++i)
    ASSERT_TRUE(rig_.put("Z" + std::to_string(i % 7), std::to_string(i)));
  ASSERT_TRUE(old.start());
  EXPECT_EQ(old.started.replayed, 50u);
  EXPECT_EQ(old.records(), rig_.records());
}

TEST_F(JournalStartTest, AStoreFromBeforeTheFloorIsRefusedAndNotChanged) {
  JournalRig old(disk_, "old", journal_);
  ASSERT_TRUE(rig_.start());
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(rig_.put("Z" + std::to_string(i), "1"));
  journal_->trim(20);
  const size_t entries = journal_->entries().size();
  const auto refused = old.start();
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().is(Errc::not_found)) << refused.error().message();
  EXPECT_NE(refused.error().text().find("entries 20 to"), std::string::npos);
  EXPECT_EQ(journal_->entries().size(), entries);
  EXPECT_EQ(old.records().size(), 0u);
  restart();  // the other one goes on
  EXPECT_EQ(rig_.records().size(), 50u);
}

TEST_F(JournalStartTest, AStoreThatEndsAtTheFloorIsPartOfTheLog) {
  ASSERT_TRUE(rig_.start());
  ASSERT_TRUE(rig_.put("Za", "1"));
  const uint64_t next = rig_.committer().last().sequence + 1;
  rig_.kill();
  JournalRig other(disk_, "b", journal_);
  ASSERT_TRUE(other.start());
  ASSERT_TRUE(other.put("Zb", "1"));
  other.kill();
  journal_->trim(next);
  ASSERT_TRUE(rig_.start());
  EXPECT_EQ(rig_.records(), (Records{{"Za", "1"}, {"Zb", "1"}}));
}

TEST_F(JournalStartTest, ChangesOfAStoreThatNobodyServesAreAppendedByTheNextStart) {
  ASSERT_TRUE(rig_.start());
  ASSERT_TRUE(rig_.put("Za", "1"));
  rig_.kill();
  ASSERT_TRUE(rig_.open());
  for (const char* value : {"2", "3"}) {
    auto txn = rig_.store->begin();
    txn.put("Za", std::string(value));
    ASSERT_TRUE(rig_.store->commit(std::move(txn)));
  }
  ASSERT_TRUE(rig_.start());
  EXPECT_EQ(rig_.started.kept, 2u);
  JournalRig other(disk_, "b", journal_);
  ASSERT_TRUE(other.start());
  EXPECT_EQ(other.records(), (Records{{"Za", "3"}}));
}

TEST_F(JournalStartTest, ChangesOfAStoreThatNobodyServesGoWhenAnotherHasLed) {
  ASSERT_TRUE(rig_.start());
  ASSERT_TRUE(rig_.put("Za", "1"));
  rig_.kill();
  ASSERT_TRUE(rig_.open());
  auto txn = rig_.store->begin();
  txn.put("Za", std::string("2"));
  ASSERT_TRUE(rig_.store->commit(std::move(txn)));
  rig_.kill();
  JournalRig other(disk_, "b", journal_);
  ASSERT_TRUE(other.start());
  ASSERT_TRUE(other.put("Zb", "1"));
  ASSERT_TRUE(rig_.start());
  EXPECT_EQ(rig_.started.undone, 1u);
  EXPECT_EQ(rig_.records(), (Records{{"Za", "1"}, {"Zb", "1"}}));
}

TEST_F(JournalStartTest, AnUndoRecordThatIsDamagedIsNamedWhenItIsNeeded) {
  ASSERT_TRUE(rig_.start());
  journal_->hold(true);
  ASSERT_TRUE(rig_.put("Za", "1"));
  auto txn = rig_.store->begin();
  txn.put(key::undo(rig_.committer().last().sequence), std::string("no message\xff"));
  ASSERT_TRUE(rig_.store->commit(std::move(txn)));
  journal_->lose(1);
  rig_.kill();
  const auto refused = rig_.start();
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().is(Errc::corrupt));
  EXPECT_NE(refused.error().text().find("datacloud recover"), std::string::npos);
}

// Two directories lead in turn. Each step: transactions, crashes of either kind, entries that reach
// a quorum or are lost.
TEST(JournalStartRandomTest, NothingDurableIsLostAndNothingIsHalfThere) {
  Seeded random;
  for (int round = 0; round < 6; ++round) {
    const auto disk = std::make_shared<SimulatedFiles>();
    const auto journal = make_memory_journal();
    JournalRig rigs[] = {{disk, "a", journal}, {disk, "b", journal}};
    JournalModel model(random);
    size_t leader = 0;
    ASSERT_TRUE(rigs[0].start());
    for (int life = 0; life < 12; ++life) {
      JournalRig& rig = rigs[leader];
      const uint64_t steps = random.number(0, 30);
      for (uint64_t i = 0; i < steps; ++i) {
        switch (random.number(0, 7)) {
          case 0:
            journal->hold(random.number(0, 1) == 0);
            break;
          case 1:
            journal->release(random.number(0, 5));
            break;
          case 2:
            rig.drain();
            break;
          default:
            model.transaction(rig);
            if (::testing::Test::HasFatalFailure()) return;
        }
      }
      const bool power_cut = random.number(0, 2) == 0;
      if (power_cut) disk->fail_power_at(disk->change_count());
      rig.kill();
      if (power_cut) disk->power_cut(random.number(0, ~uint64_t{0}));
      journal->lose(random.number(0, 4) == 0 ? 0 : random.number(0, journal->uncommitted()));
      const bool changes = random.number(0, 2) == 0;
      leader = changes ? 1 - leader : leader;
      rigs[leader].append_delay = milliseconds(random.number(0, 1));
      const auto started = rigs[leader].start();
      ASSERT_TRUE(started) << started.error().message();
      model.started(rigs[leader], !power_cut && !changes);
      // As the service does at every start, and waits for it before it serves anybody.
      model.transaction(rigs[leader]);
      rigs[leader].committer().when_durable([] {});
      journal->release();
      if (::testing::Test::HasFailure()) return;
    }
  }
}

// The start itself is cut off at every change of the disk.
TEST(JournalStartRandomTest, AStartMayBeCutOffAnywhere) {
  Seeded random;
  for (uint64_t cut = 0;; ++cut) {
    const auto disk = std::make_shared<SimulatedFiles>();
    const auto journal = make_memory_journal();
    JournalRig rig(disk, "a", journal), other(disk, "b", journal);
    ASSERT_TRUE(rig.start());
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(rig.put("Z" + std::to_string(i), "before"));
    journal->hold(true);
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(rig.put("Z" + std::to_string(i), "lost"));
    journal->lose(4);
    journal->hold(false);
    ASSERT_TRUE(other.start());
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(other.put("Z" + std::to_string(i), "after"));
    const Records wanted = other.records();
    other.kill();
    rig.kill();
    const uint64_t from = disk->change_count();
    disk->fail_power_at(from + cut);
    const bool done = rig.start().has_value();
    rig.kill();
    const uint64_t changes = disk->change_count() - from;
    disk->power_cut(random.number(0, ~uint64_t{0}));
    const auto again = rig.start();
    ASSERT_TRUE(again) << "cut at change " << cut << ": " << again.error().message();
    EXPECT_EQ(rig.records(), wanted) << "cut at change " << cut;
    if (done && changes < cut) break;
    ASSERT_LT(cut, 500u);
  }
}

}  // namespace
}  // namespace datacloud
