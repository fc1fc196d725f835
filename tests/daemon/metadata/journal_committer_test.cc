// What a commit with a journal does in the store and in the log, when it is durable, and when
// requests have to wait.
#include "daemon/metadata/journal_committer.h"

#include <gtest/gtest.h>

#include "common/proto/journal.pb.h"
#include "daemon/metadata/record_keys.h"
#include "tests/daemon/metadata/journal_rig.h"

namespace datacloud {
namespace {

class JournalCommitterTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(rig_.start()); }
  std::vector<BatchReader::Batch> batches() {
    BatchReader reader(journal_test_key());
    std::vector<BatchReader::Batch> out;
    for (const auto& entry : rig_.journal->entries()) {
      auto batch = reader.add(entry);
      EXPECT_TRUE(batch) << batch.error().message();
      if (batch && batch.value()) out.push_back(std::move(*batch.value()));
    }
    return out;
  }
  size_t undo_records() { return rig_.store->undoable().value().size(); }

  std::shared_ptr<SimulatedFiles> disk_ = std::make_shared<SimulatedFiles>();
  JournalRig rig_{disk_, "a", make_memory_journal()};
};

TEST_F(JournalCommitterTest, ATransactionIsInTheStoreAtOnceAndInTheLogAsItsEffects) {
  ASSERT_TRUE(rig_.put("Za", "1"));
  auto txn = rig_.store->begin();
  txn.put("Zb", std::string("2"));
  txn.erase("Za");
  ASSERT_TRUE(rig_.committer().apply(std::move(txn)));
  EXPECT_EQ(rig_.records(), (std::map<std::string, std::string>{{"Zb", "2"}}));
  const auto logged = batches();
  ASSERT_EQ(logged.size(), 2u);
  EXPECT_EQ(logged[1].sequence, rig_.store->sequence());
  EXPECT_EQ(logged[1].changes, (RecordChanges{{"Za", std::nullopt}, {"Zb", "2"}}));
  EXPECT_EQ(rig_.store->journal_position(), rig_.journal->entries().back().position());
  EXPECT_EQ(rig_.store->journal_position(), rig_.committer().last());
}

TEST_F(JournalCommitterTest, NothingIsAppendedForNothing) {
  ASSERT_TRUE(rig_.committer().apply(rig_.store->begin()));
  EXPECT_EQ(batches().size(), 0u);
}

TEST_F(JournalCommitterTest, DurableIsWhatAQuorumHas) {
  rig_.journal->hold(true);
  ASSERT_TRUE(rig_.put("Za", "1"));
  bool committed = false, durable = false;
  rig_.committer().when_committed([&] { committed = true; });
  EXPECT_TRUE(committed) << "its author is told: the store has it";
  rig_.committer().when_durable([&] { durable = true; });
  rig_.drain();
  EXPECT_FALSE(durable);
  EXPECT_FALSE(rig_.committer().wait_durable(milliseconds(1)));
  rig_.journal->release();
  EXPECT_FALSE(durable);
  rig_.drain();
  EXPECT_TRUE(durable);
  EXPECT_TRUE(rig_.committer().wait_durable(milliseconds(1)));
  durable = false;
  rig_.committer().when_durable([&] { durable = true; });
  EXPECT_FALSE(durable) << "never before the call returns";
  rig_.drain();
  EXPECT_TRUE(durable);
}

TEST_F(JournalCommitterTest, TheStoreIsNotSyncedForIt) {
  ASSERT_TRUE(rig_.put("Za", "1"));
  const uint64_t syncs = disk_->sync_count();
  bool durable = false;
  rig_.committer().when_durable([&] { durable = true; });
  rig_.drain();
  EXPECT_TRUE(durable);
  EXPECT_EQ(disk_->sync_count(), syncs);
}

TEST_F(JournalCommitterTest, WhatUndoesATransactionGoesOnceItIsCommitted) {
  rig_.journal->hold(true);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(rig_.put("Za", std::to_string(i)));
  EXPECT_EQ(undo_records(), 5u);
  rig_.journal->release(3);
  ASSERT_TRUE(rig_.put("Za", "5"));
  EXPECT_EQ(undo_records(), 3u);
  rig_.journal->release();
  ASSERT_TRUE(rig_.put("Za", "6"));
  EXPECT_EQ(undo_records(), 1u) << "its own";
}

TEST_F(JournalCommitterTest, ALargeTransactionIsSeveralEntriesAndOneToTheReader) {
  auto txn = rig_.store->begin();
  RecordChanges all;
  for (int i = 0; i < 12; ++i) {
    const std::string key = "Z" + std::to_string(100 + i);
    txn.put(key, std::string(1 << 20, static_cast<char>('a' + i)));
    all[key] = std::string(1 << 20, static_cast<char>('a' + i));
  }
  const size_t before = rig_.journal->entries().size();
  ASSERT_TRUE(rig_.committer().apply(std::move(txn)));
  EXPECT_GE(rig_.journal->entries().size(), before + 3);
  const auto logged = batches();
  ASSERT_EQ(logged.size(), 1u);
  EXPECT_EQ(logged[0].changes, all);
  EXPECT_EQ(undo_records(), 1u);
}

TEST_F(JournalCommitterTest, PartsOfATransactionThatTheEndOfAnEpochCutOffCountForNothing) {
  auto txn = rig_.store->begin();
  for (int i = 0; i < 12; ++i) txn.put("Z" + std::to_string(i), std::string(1 << 20, 'x'));
  rig_.journal->hold(true);
  ASSERT_TRUE(rig_.committer().apply(std::move(txn)));
  rig_.journal->lose(1);
  JournalRig other(disk_, "b", rig_.journal);
  ASSERT_TRUE(other.start());
  EXPECT_EQ(other.records().size(), 0u);
  ASSERT_TRUE(other.put("Zmine", "1"));
  ASSERT_EQ(batches().size(), 1u);
  EXPECT_EQ(batches()[0].changes, (RecordChanges{{"Zmine", "1"}}));
}

TEST_F(JournalCommitterTest, ARecordLargerThanAnEntryIsRefusedAndEndsTheDaemon) {
  auto txn = rig_.store->begin();
  txn.put("Zbig", std::string(5 << 20, 'x'));
  EXPECT_FALSE(rig_.committer().apply(std::move(txn)));
  EXPECT_EQ(rig_.fatal.size(), 1u);
  EXPECT_EQ(rig_.records().size(), 0u);
}

TEST_F(JournalCommitterTest, RequestsWaitWhileTooMuchIsAtNoQuorumAndGoOnInOrder) {
  rig_.journal->hold(true);
  EXPECT_FALSE(rig_.committer().full());
  const std::string value(300 << 10, 'x');
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(rig_.put("Z" + std::to_string(i), value));
  EXPECT_TRUE(rig_.committer().full());
  std::vector<int> ran;
  for (int i = 0; i < 3; ++i) {
    rig_.committer().when_room([&, i] {
      ran.push_back(i);
      ASSERT_TRUE(rig_.put("Y" + std::to_string(i), value));
    });
  }
  rig_.drain();
  EXPECT_TRUE(ran.empty());
  EXPECT_EQ(rig_.committer().waiting(), 3u);
  rig_.journal->release(1);  // room for one
  rig_.drain();
  EXPECT_EQ(ran, (std::vector<int>{0}));
  EXPECT_TRUE(rig_.committer().full());
  rig_.journal->hold(false);
  rig_.journal->release();
  rig_.drain();
  EXPECT_EQ(ran, (std::vector<int>{0, 1, 2}));
  EXPECT_FALSE(rig_.committer().full());
  bool at_once = false;
  rig_.committer().when_room([&] { at_once = true; });
  EXPECT_TRUE(at_once);
  ASSERT_TRUE(rig_.put("Zafter", "1")) << "what does not wait is applied all the same";
}

TEST_F(JournalCommitterTest, AnotherLeaderEndsThisOneAndAnswersNobody) {
  rig_.journal->hold(true);
  ASSERT_TRUE(rig_.put("Za", "1"));
  bool durable = false, room = false;
  rig_.committer().when_durable([&] { durable = true; });
  const std::string value(1 << 20, 'x');
  ASSERT_TRUE(rig_.put("Zb", value));
  rig_.committer().when_room([&] { room = true; });
  const auto mine = rig_.started.committer->log().epoch();
  const auto other = rig_.journal->claim();
  EXPECT_TRUE(mine < other->epoch());
  rig_.drain();
  EXPECT_EQ(rig_.fatal.size(), 1u);
  EXPECT_FALSE(durable);
  EXPECT_FALSE(room);
  const size_t entries = rig_.journal->entries().size();
  ASSERT_TRUE(rig_.put("Zc", "1"));
  EXPECT_EQ(rig_.journal->entries().size(), entries) << "nothing of it gets into the log";
}

TEST_F(JournalCommitterTest, AStoreThatCannotWriteIsFatalAndNothingFollowsInTheLog) {
  disk_->set_failure_rule([](SimulatedFiles::Call call, const std::string& path) {
    return call == SimulatedFiles::Call::append && path.ends_with(".log") ? ENOSPC : 0;
  });
  const size_t entries = rig_.journal->entries().size();
  EXPECT_FALSE(rig_.put("Za", "1"));
  ASSERT_EQ(rig_.fatal.size(), 1u);
  EXPECT_FALSE(rig_.put("Zb", "1"));
  EXPECT_EQ(rig_.journal->entries().size(), entries);
}

// Entries that may wait for others.
class HeldEntriesTest : public JournalCommitterTest {
 protected:
  void SetUp() override {
    rig_.append_delay = milliseconds(10);
    JournalCommitterTest::SetUp();
    begun_ = logged();
  }
  size_t logged() const { return rig_.journal->entries().size(); }
  size_t held() const { return rig_.committer().last().sequence - logged(); }
  size_t begun_ = 0;
};

TEST_F(HeldEntriesTest, GoTogetherAfterTheDelayInTheirOrder) {
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(rig_.put("Z" + std::to_string(i), "x"));
  EXPECT_EQ(logged(), begun_);
  EXPECT_EQ(rig_.records().size(), 3u) << "the store has them";
  rig_.drain();  // the timer
  EXPECT_EQ(logged(), begun_ + 3);
  ASSERT_EQ(batches().size(), 3u);
  EXPECT_EQ(batches()[2].changes, (RecordChanges{{"Z2", "x"}}));
  ASSERT_TRUE(rig_.put("Zmore", "x"));
  EXPECT_EQ(held(), 1u);
  rig_.drain();
  EXPECT_EQ(held(), 0u) << "the timer is set again";
}

TEST_F(HeldEntriesTest, WaitForNobodyWhoWaitsForThem) {
  const auto apply = [&] {
    ASSERT_TRUE(rig_.put("Za", "x"));
    ASSERT_EQ(held(), 1u);
  };
  apply();
  rig_.committer().when_durable([] {});
  EXPECT_EQ(held(), 0u);
  apply();
  (void)rig_.committer().wait_durable(seconds(0));
  EXPECT_EQ(held(), 0u);
  apply();
  ASSERT_TRUE(rig_.committer().append(journal::EntryKind::heads, as_bytes("heads"), {}));
  EXPECT_EQ(held(), 0u);
}

TEST_F(HeldEntriesTest, AreBoundedAndCountAsWhatIsAtNoQuorum) {
  rig_.journal->hold(true);
  const std::string value(100 << 10, 'x');
  ASSERT_TRUE(rig_.put("Za", value));
  ASSERT_TRUE(rig_.put("Zb", value));
  EXPECT_EQ(held(), 2u);
  ASSERT_TRUE(rig_.put("Zc", value));
  EXPECT_EQ(held(), 0u) << "enough for an append";
  while (!rig_.committer().full()) {
    ASSERT_LT(rig_.committer().last().sequence, 100u);
    ASSERT_TRUE(rig_.put("Za", value));
  }
  bool room = false;
  rig_.committer().when_room([&] { room = true; });
  EXPECT_EQ(held(), 0u);
  rig_.journal->release();
  rig_.drain();
  EXPECT_TRUE(room);
}

TEST_F(HeldEntriesTest, OfADaemonThatEndsGoIntoTheLogAtTheNextStart) {
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(rig_.put("Z" + std::to_string(i), "x"));
  EXPECT_EQ(held(), 3u);
  rig_.kill();
  ASSERT_TRUE(rig_.start());
  EXPECT_EQ(rig_.started.kept, 3u);
  rig_.drain();
  ASSERT_EQ(batches().size(), 1u);
  EXPECT_EQ(batches()[0].changes, (RecordChanges{{"Z0", "x"}, {"Z1", "x"}, {"Z2", "x"}}));
}

TEST_F(JournalCommitterTest, EntriesOfOtherKindsTellTheirPositionOnceCommitted) {
  rig_.journal->hold(true);
  journal::LogPosition told;
  ASSERT_TRUE(rig_.committer().append(journal::EntryKind::heads, as_bytes("heads"),
                                      [&](const auto& at) { told = at; }));
  rig_.drain();
  EXPECT_EQ(told.sequence, 0u);
  rig_.journal->release();
  rig_.drain();
  EXPECT_EQ(told, rig_.committer().last());
  // The next transaction is undone to the position behind it.
  ASSERT_TRUE(rig_.put("Za", "1"));
  EXPECT_EQ(rig_.store->undoable().value().back().before, told);
}

TEST_F(JournalCommitterTest, BytesAreCountedFromTheFloor) {
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(rig_.put("Za", std::string(1000, 'x')));
  uint64_t bytes = 0;
  for (const auto& entry : rig_.journal->entries()) bytes += entry.bytes->size();
  const uint64_t told = rig_.committer().bytes();
  EXPECT_GT(told, bytes * 9 / 10);
  EXPECT_LT(told, bytes * 11 / 10);
  rig_.committer().trim(rig_.committer().last().sequence + 1);
  EXPECT_EQ(rig_.committer().bytes(), 0u);
  EXPECT_EQ(rig_.committer().floor(), rig_.committer().last().sequence + 1);
}

}  // namespace
}  // namespace datacloud
