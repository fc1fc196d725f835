// The metadata comes back from the sites as it was, at every entry that can be reached, or there is
// a reason why it does not.
#include "daemon/checkpoint/recovery.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "tests/daemon/checkpoint/recovery_rig.h"

namespace datacloud {
namespace {

TEST_F(RecoveryTest, ComesBackWithoutAsManySitesAsMayBeLost) {
  for (int i = 0; i < 10; ++i) change(some_changes());
  checkpoint();
  lead();
  for (int i = 0; i < 10; ++i) change(some_changes());
  checkpoint();
  for (int i = 0; i < 10; ++i) change(some_changes());
  lose(static_cast<int>(seeded_.number(0, 1)));
  lose(static_cast<int>(seeded_.number(2, 4)));
  const auto survey = survey_journal(sources(), place());
  ASSERT_TRUE(survey) << survey.error().message();
  EXPECT_TRUE(survey.value().enough());
  EXPECT_EQ(survey.value().answered, 3u);
  EXPECT_EQ(survey.value().rules.adopt, 3);
  EXPECT_EQ(survey.value().end, last_);
  EXPECT_EQ(survey.value().roots.size(), 2u);
  EXPECT_EQ(survey.value().cloud.name(), "test");
  EXPECT_NE(survey.value().describe_missing().find("burned"), std::string::npos);
  const auto recovered = load(survey.value());
  ASSERT_TRUE(recovered) << recovered.error().message();
  EXPECT_EQ(recovered.value().position, last_);
  EXPECT_EQ(recovered.value().transactions, 10u);
  EXPECT_EQ(recovered.value().set.sites_size(), kSites);
  EXPECT_TRUE(made_records() == stored());
  EXPECT_EQ(MetadataStore::open(made()).value()->journal_position(), last_);
}

TEST_F(RecoveryTest, GoesBackToAnyEntryOfTheWindow) {
  for (int i = 0; i < 5; ++i) change(some_changes());
  checkpoint();
  for (int i = 0; i < 5; ++i) change(some_changes());
  checkpoint();
  lead();
  for (int i = 0; i < 5; ++i) change(some_changes());
  const auto survey = survey_journal(sources(), place(), {}, kWholeLog).value();
  EXPECT_EQ(survey.oldest(), survey.roots.back().covered);
  for (uint64_t to = survey.oldest(); to <= last_.sequence; ++to) {
    const auto recovered = load(survey, to);
    ASSERT_TRUE(recovered) << recovered.error().message();
    EXPECT_EQ(recovered.value().position.sequence, to);
    EXPECT_TRUE(made_records() == history_[to]) << to;
  }
  for (const uint64_t to : {survey.oldest() - 1, last_.sequence + 1, UINT64_MAX}) {
    const auto refused = load(survey, to);
    ASSERT_FALSE(refused);
    EXPECT_TRUE(refused.error().is(Errc::not_found));
  }
}

TEST_F(RecoveryTest, ACheckpointThatCannotBeReadIsPassedOver) {
  for (int i = 0; i < 5; ++i) change(some_changes());
  checkpoint();
  for (int i = 0; i < 5; ++i) change(some_changes());
  const auto newest = checkpoint();
  for (int i = 0; i < 5; ++i) change(some_changes());
  for (const int c : {0, 2, 3}) {
    const auto site = newest.pieces(0).sites(c) - 1;
    ASSERT_TRUE(controls_[site].overwrite(column_name(newest.number(), 0, c), Bytes(7)));
  }
  const auto survey = survey_journal(sources(), place()).value();
  const auto recovered = load(survey);
  ASSERT_TRUE(recovered) << recovered.error().message();
  EXPECT_EQ(recovered.value().checkpoint, roots_[0].number());
  ASSERT_FALSE(recovered.value().problems.empty());
  EXPECT_NE(recovered.value().problems[0].find(checkpoint_name(newest.number())),
            std::string::npos);
  EXPECT_TRUE(made_records() == stored());
  // The other one as well: nothing is left to begin with.
  for (const int c : {1, 2, 3}) {
    const auto site = roots_[0].pieces(0).sites(c) - 1;
    ASSERT_TRUE(controls_[site].overwrite(column_name(roots_[0].number(), 0, c), Bytes(7)));
  }
  const auto refused = survey_journal(sources(), place());
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().is(Errc::unavailable)) << refused.error().message();
  EXPECT_FALSE(load(survey));
}

// A log of several parts, with a checkpoint in the oldest and one in the newest.
class LongLogTest : public RecoveryTest {
 protected:
  void SetUp() override {
    RecoveryTest::SetUp();
    for (int i = 0; i < 3; ++i) change(some_changes());
    checkpoint();
    change(some_changes());
    early_ = last_.sequence;
    for (int i = 0; i < 3000; ++i) append(journal::EntryKind::heads, {});
    for (int i = 0; i < 3; ++i) change(some_changes());
    checkpoint();
    for (int i = 0; i < 3; ++i) change(some_changes());
  }
  void damage(const pb::CheckpointRoot& root) {
    for (const int c : {0, 2, 3}) {
      const auto site = root.pieces(0).sites(c) - 1;
      ASSERT_TRUE(controls_[site].overwrite(column_name(root.number(), 0, c), Bytes(7)));
    }
  }
  uint64_t early_ = 0;  // an entry that only the first checkpoint leads to
};

TEST_F(LongLogTest, IsReadBackToTheNewestCheckpointAndFurtherWhenThatIsNotEnough) {
  const auto survey = survey_journal(sources(), place()).value();
  EXPECT_EQ(survey.end, last_);
  EXPECT_EQ(survey.roots.size(), 1u);
  EXPECT_FALSE(survey.whole());
  EXPECT_EQ(survey.committed, last_.sequence - 1);
  ASSERT_TRUE(load(survey));
  EXPECT_TRUE(made_records() == stored());

  const auto whole = survey_journal(sources(), place(), {}, kWholeLog).value();
  EXPECT_TRUE(whole.whole());
  EXPECT_EQ(whole.roots.size(), 2u);
  EXPECT_EQ(whole.first, 1u);
  EXPECT_EQ(whole.cloud.name(), survey.cloud.name());
  EXPECT_GT(whole.bytes, survey.bytes);

  // The load goes on by itself where the survey ended.
  auto recovered = load(survey, early_);
  ASSERT_TRUE(recovered) << recovered.error().message();
  EXPECT_EQ(recovered.value().position.sequence, early_);
  EXPECT_TRUE(made_records() == history_[early_]);
  EXPECT_EQ(survey_journal(sources(), place(), {}, early_).value().roots.size(), 2u);
  EXPECT_FALSE(load(survey, whole.oldest() - 1));

  damage(roots_[1]);
  recovered = load(survey);
  ASSERT_TRUE(recovered) << recovered.error().message();
  EXPECT_EQ(recovered.value().checkpoint, roots_[0].number());
  EXPECT_TRUE(made_records() == stored());
  EXPECT_EQ(survey_journal(sources(), place()).value().roots.size(), 2u);
  damage(roots_[0]);
  EXPECT_FALSE(load(survey));
  const auto refused = survey_journal(sources(), place());
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().is(Errc::unavailable));
  EXPECT_NE(refused.error().text().find(checkpoint_name(roots_[1].number())), std::string::npos);
}

// Reads of entries in front of `split` show another history.
class SplicedLog final : public journal::LogStore {
 public:
  SplicedLog(std::shared_ptr<journal::LogStore> log, std::vector<journal::LogEntry> other)
      : log_(std::move(log)), other_(std::move(other)) {}
  result<journal::LogHead> head() override { return log_->head(); }
  result<std::vector<journal::LogEntry>> read(uint64_t from, size_t bytes_max) override {
    if (from > other_.size()) return log_->read(from, bytes_max);
    return std::vector(other_.begin() + static_cast<ptrdiff_t>(from - 1), other_.end());
  }
  result<journal::LogHead> claim(const journal::Epoch&) override { return none(); }
  result<void> begin(const journal::Epoch&, const journal::LogPosition&, journal::Base) override {
    return none();
  }
  void append(const journal::Epoch&, journal::LogBatch, Done done) override { done(none()); }
  result<journal::LogHead> settle(const journal::Epoch&) override { return none(); }
  result<void> trim(const journal::Epoch&, uint64_t) override { return none(); }
  result<void> seal(const journal::Epoch&) override { return none(); }

 private:
  static Error none() { return Error(Errc::unsupported, "it is only read"); }
  const std::shared_ptr<journal::LogStore> log_;
  const std::vector<journal::LogEntry> other_;
};

TEST_F(LongLogTest, PartsThatDoNotFollowEachOtherAreDamage) {
  const auto survey = survey_journal(sources(), place()).value();
  journal::EntrySealer sealer(metadata_key_, journal_, {1, 77});
  std::vector<journal::LogEntry> other;
  journal::LogPosition at;
  while (at.sequence + 1 < survey.first) {
    other.push_back(sealer.seal(journal::EntryKind::heads, at, 0, {}).value());
    at = other.back().position();
  }
  auto spliced = sources();
  for (auto& source : spliced) source.log = std::make_shared<SplicedLog>(source.log, other);
  EXPECT_TRUE(survey_journal(spliced, place()));
  for (const uint64_t reach : {early_, kWholeLog}) {
    const auto refused = survey_journal(spliced, place(), {}, reach);
    ASSERT_FALSE(refused);
    EXPECT_TRUE(refused.error().is(Errc::corrupt)) << refused.error().message();
  }
  EXPECT_FALSE(
      load_metadata(*std::make_unique<Survey>(survey), spliced, place(), made(), early_, {}));
}

TEST_F(RecoveryTest, TakesTheLogThatEndsLastAndWantsEnoughSites) {
  for (int i = 0; i < 5; ++i) change(some_changes());
  checkpoint();
  change(some_changes(), 3);  // a quorum has it, two sites do not
  change(some_changes(), 2);  // nobody has been told of it
  lose_log(0);
  auto survey = survey_journal(sources(), place()).value();
  EXPECT_EQ(survey.sites[survey.source].name, "s2");
  EXPECT_EQ(survey.end, last_);
  lose_log(1);
  survey = survey_journal(sources(), place()).value();
  EXPECT_EQ(survey.sites[survey.source].name, "s3");
  EXPECT_EQ(survey.end.sequence, last_.sequence - 1);
  EXPECT_TRUE(survey.enough());
  lose_log(2);
  survey = survey_journal(sources(), place()).value();
  EXPECT_FALSE(survey.enough());
  EXPECT_EQ(survey.answered, 2u);
  // One by name, whatever the others have.
  lost_.clear();
  survey = survey_journal(sources(), place(), SiteId{4}).value();
  EXPECT_EQ(survey.sites[survey.source].name, "s4");
  EXPECT_EQ(survey.end.sequence, last_.sequence - 2);
}

TEST_F(RecoveryTest, AnEmptyLogAnotherCloudsAndASealedOneDoNotCount) {
  change(some_changes());
  checkpoint();
  memories_[0] = make_guarded_memory();
  ASSERT_TRUE(
      journal::format_guarded_log(*open_guarded_memory(memories_[0]), {.journal = journal_}));
  memories_[1] = make_guarded_memory();
  ASSERT_TRUE(journal::format_guarded_log(*open_guarded_memory(memories_[1]),
                                          {.journal = journal::JournalId{9}}));
  memories_[2] = make_guarded_memory();
  ASSERT_TRUE(logs_[3]->seal(epoch_));
  const auto survey = survey_journal(sources(), place()).value();
  EXPECT_EQ(survey.answered, 1u);
  EXPECT_FALSE(survey.enough());
  for (int i = 0; i < 4; ++i) {
    EXPECT_FALSE(survey.sites[static_cast<size_t>(i)].answered);
    EXPECT_FALSE(survey.sites[static_cast<size_t>(i)].reason.empty());
  }
}

TEST_F(RecoveryTest, WithoutACheckpointThereIsNothing) {
  change(some_changes());
  auto refused = survey_journal(sources(), place());
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().is(Errc::not_found)) << refused.error().message();
  for (int i = 0; i < kSites; ++i) lose(i);
  refused = survey_journal(sources(), place());
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().is(Errc::not_found));
  EXPECT_NE(refused.error().text().find("burned"), std::string::npos);
}

TEST_F(RecoveryTest, NeedsTheKey) {
  change(some_changes());
  checkpoint();
  CheckpointPlace other = place();
  other.metadata_key = SecretKey::random();
  const auto refused = survey_journal(sources(), other);
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().is(Errc::corrupt)) << refused.error().message();
}

TEST_F(RecoveryTest, TrimmedEntriesAreNotMissed) {
  for (int i = 0; i < 3; ++i) change(some_changes());
  checkpoint();
  for (int i = 0; i < 3; ++i) change(some_changes());
  checkpoint();
  const auto before = survey_journal(sources(), place()).value();
  const uint64_t floor = before.roots[0].covered + 1;
  for (auto& log : logs_) ASSERT_TRUE(log->trim(epoch_, floor));
  for (int i = 0; i < 3; ++i) change(some_changes());
  const auto survey = survey_journal(sources(), place()).value();
  EXPECT_EQ(survey.floor, floor);
  EXPECT_EQ(survey.oldest(), floor - 1);
  ASSERT_TRUE(load(survey));
  EXPECT_TRUE(made_records() == stored());
  EXPECT_FALSE(load(survey, floor - 2));
}

TEST_F(RecoveryTest, ATransactionOfSeveralEntriesComesBackWholeOrNotAtAll) {
  change(some_changes());
  checkpoint();
  change(some_changes());
  const auto whole_until = last_;
  const Records before = stored();
  // Two entries, of which the second ends it.
  const RecordChanges first{{key::inode(5000), "one"}}, second{{key::inode(5001), "two"}};
  pb::JournalBatch part;
  part.set_sequence(store_->sequence() + 1);
  part.set_more(true);
  add(part, first);
  append(journal::EntryKind::data, as_bytes(part.SerializeAsString()));
  const uint64_t within = last_.sequence;
  auto survey = survey_journal(sources(), place()).value();
  auto recovered = load(survey).value();
  EXPECT_EQ(recovered.position, whole_until);
  EXPECT_TRUE(made_records() == before);

  change_store({{key::inode(5000), "one"}, {key::inode(5001), "two"}});
  part.Clear();
  part.set_sequence(store_->sequence());
  add(part, second);
  append(journal::EntryKind::data, as_bytes(part.SerializeAsString()));
  survey = survey_journal(sources(), place()).value();
  recovered = load(survey).value();
  EXPECT_EQ(recovered.position, last_);
  EXPECT_TRUE(made_records() == stored());
  recovered = load(survey, within).value();
  EXPECT_EQ(recovered.position, whole_until);
  EXPECT_TRUE(made_records() == before);
}

TEST_F(RecoveryTest, WhatGoesBackGivesNoIdTwiceAndRetiresLaterCheckpoints) {
  change(some_changes());
  checkpoint();
  change(some_changes());
  const uint64_t to = last_.sequence;
  change(some_changes());
  const auto later = checkpoint();
  const auto survey = survey_journal(sources(), place()).value();
  ASSERT_TRUE(load(survey, to));
  pb::JournalSet set = set_;
  set.set_number(2);
  set.clear_sites();
  set.add_sites(3);
  const auto adapted = adapt_metadata(made(), survey, set);
  ASSERT_TRUE(adapted) << adapted.error().message();
  const auto store = MetadataStore::open(made()).value();
  const auto txn = store->begin();
  for (const char* name : {"inode", "stripe", "instance", "version"}) {
    const auto next = txn.get(key::meta(std::string("next_id/") + name)).value();
    EXPECT_EQ(key::u64_at(*next, 0), 256 + (uint64_t{1} << 40)) << name;
  }
  pb::JournalSet now;
  ASSERT_TRUE(txn.get(key::meta(kJournalRecord), now).value());
  EXPECT_EQ(now.sites_size(), 1);
  pb::CheckpointRecord record;
  ASSERT_TRUE(txn.get(key::meta("checkpoint/" + checkpoint_name(later.number())), record).value());
  EXPECT_EQ(record.state(), pb::CHECKPOINT_RETIRING);
  // With it, all its objects can be removed.
  const size_t all = objects();
  ASSERT_TRUE(remove_checkpoint(record, place()));
  EXPECT_EQ(objects(), all - 5);
  // It waits for the next start, which puts it into the journal.
  EXPECT_EQ(store->undoable().value().size(), 1u);
  EXPECT_EQ(store->journal_position().sequence, to);
}

TEST_F(RecoveryTest, TheDirectoryCountsOnceItIsRenamed) {
  change(some_changes());
  checkpoint();
  const auto survey = survey_journal(sources(), place()).value();
  // What an attempt has left that was cut off.
  std::filesystem::create_directory(made().directory);
  std::ofstream(made().directory + "/CURRENT") << "rubbish";
  ASSERT_TRUE(load(survey));
  const auto files = make_posix_file_layer();
  const std::string place = root_ + "/meta";
  auto refused = adopt_directory(*files, made().directory, place);
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().is(Errc::exists));
  const Records wanted = stored();
  store_.reset();
  std::filesystem::remove_all(place);
  ASSERT_TRUE(adopt_directory(*files, made().directory, place));
  EXPECT_FALSE(std::filesystem::exists(made().directory));
  open();
  EXPECT_TRUE(stored() == wanted);
  ASSERT_TRUE(clear_directory(*files, made().directory)) << "it is not there";
}

}  // namespace
}  // namespace datacloud
