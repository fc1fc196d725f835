// Damage of slots that files share: found, told by looking, repaired without loss where the rest of
// the records tells what is right.
#include "daemon/records/cloud_features.h"
#include "daemon/records/slot_references.h"
#include "tests/daemon/fsck/fsck_rig.h"

namespace datacloud {
namespace {

class FsckSharedTest : public FsckTest {
 protected:
  // `file_` has stripe 5 in blocks 0 to 2; the clone has its blocks 1 and 2 at 7 and 8.
  void SetUp() override {
    FsckTest::SetUp();
    clone_ = make(kRootInode, "clone", S_IFREG | 0644);
    damage([&](Transaction& txn) {
      ASSERT_TRUE(enable_feature(txn, Feature::shared_slots, store_->sequence() + 1));
    });
    const auto done = apply([&](Transaction& txn) {
      return clone_range(txn, {file_, clone_, 1, 7, 2, 9 * 4096, 1});
    });
    ASSERT_TRUE(done) << done.error().message();
    reference_ = key::shared(5, 1, clone_, 7);
    ASSERT_TRUE(store_->begin().get(reference_).value());
    EXPECT_EQ(run(false).findings_total(), 0u) << run(false).DebugString();
    expect_clean();
    whole_ = records();
  }

  // All records of block maps.
  std::map<std::string, std::string> records() {
    std::map<std::string, std::string> all;
    const auto txn = store_->begin();
    for (const char kind : std::string("LRJMF")) {
      const std::string prefix(1, kind);
      EXPECT_TRUE(txn.scan(prefix, key::after_prefix(prefix), [&](auto k, auto v) {
        all.emplace(k, v);
        return true;
      }));
    }
    return all;
  }

  // Repaired so that nothing is lost: the records are as they were.
  void expect_restored(const std::string& text) {
    const auto seen = run(false);
    ASSERT_GT(seen.findings_total(), 0u) << "nothing was found";
    EXPECT_THAT(seen.ShortDebugString(), testing::HasSubstr(text));
    run(true);
    expect_sound();
    EXPECT_EQ(records(), whole_);
  }

  InodeId clone_ = 0;
  std::string reference_;
  std::map<std::string, std::string> whole_;
};

TEST_F(FsckSharedTest, ALostReferenceOfACloneIsWrittenAgain) {
  damage([&](Transaction& txn) { txn.erase(reference_); });
  expect_restored("the reverse map of stripe 5 lacks run 7");
}

TEST_F(FsckSharedTest, AReferenceThatDoesNotParseIsWrittenAgain) {
  damage([&](Transaction& txn) { txn.put(reference_, std::string("\xff\xff garbage")); });
  expect_restored("reverse map");
}

TEST_F(FsckSharedTest, AReferenceWithAnotherLengthOrSealingIsSetRight) {
  auto owner = get<pb::Owner>(reference_);
  owner.set_count(1);
  damage([&](Transaction& txn) { txn.put(reference_, owner); });
  expect_restored("lacks run 7");
  owner = get<pb::Owner>(reference_);
  owner.mutable_sealed_for()->set_first_block(77);
  damage([&](Transaction& txn) { txn.put(reference_, owner); });
  expect_restored("lacks run 7");
}

TEST_F(FsckSharedTest, AReferenceOfNoRunGoes) {
  auto owner = get<pb::Owner>(reference_);
  owner.set_first_block(70);
  owner.set_version(0);  // so that no run can be made of it
  damage([&](Transaction& txn) { txn.put(key::shared(5, 1, clone_, 70), owner); });
  expect_restored("names no run");
}

TEST_F(FsckSharedTest, AWrongNumberOfReferencesIsCountedAnew) {
  auto live = get<pb::StripeLive>(key::live(5));
  EXPECT_EQ(live.shared(), 1u);
  live.set_shared(0);
  damage([&](Transaction& txn) { txn.put(key::live(5), live); });
  expect_restored("shared 1 times");
}

TEST_F(FsckSharedTest, ALostRunOfACloneComesBackWithWhatItWasSealedFor) {
  damage([&](Transaction& txn) { txn.erase(key::run(clone_, 7)); });
  expect_restored("it is written again from the reverse map");
  damage([&](Transaction& txn) { txn.put(key::run(clone_, 7), std::string("\xff\xff")); });
  expect_restored("it is written again from the reverse map");
}

TEST_F(FsckSharedTest, ALostFirstReferenceIsWrittenAgain) {
  damage([&](Transaction& txn) { txn.erase(key::owner(5, 0)); });
  expect_restored("the reverse map of stripe 5 lacks run 0");
}

TEST_F(FsckSharedTest, OfTwoFirstReferencesTheSecondBecomesAFurtherOne) {
  const auto owner = get<pb::Owner>(reference_);
  damage([&](Transaction& txn) {
    txn.erase(reference_);
    txn.put(key::owner(5, 1), owner);
    auto live = get<pb::StripeLive>(key::live(5));
    live.set_shared(0);
    txn.put(key::live(5), live);
  });
  expect_restored("has two first users");
}

TEST_F(FsckSharedTest, ARunWithBothReferencesKeepsOne) {
  const auto owner = get<pb::Owner>(key::owner(5, 0));
  damage([&](Transaction& txn) { txn.put(key::shared(5, 0, file_, 0), owner); });
  expect_restored("reverse map of stripe 5");
}

// Sealed for something else, the slot cannot hold what the run says: reading it would fail.
TEST_F(FsckSharedTest, ACloneThatMeansAnotherBlockThanTheSlotHoldsIsLost) {
  auto wrong = get<pb::Run>(key::run(clone_, 7));
  wrong.set_version(wrong.version() + 5);
  damage([&](Transaction& txn) {
    txn.put(key::run(clone_, 7), wrong);
    txn.put(reference_, stripes::owner_of(clone_, wrong));
  });
  EXPECT_THAT(run(false).ShortDebugString(), testing::HasSubstr("as another run does"));
  run(true);
  expect_sound();
  const auto runs = runs_of(store_->begin(), clone_, 7, 2).value();
  ASSERT_FALSE(runs.empty());
  for (const auto& run : runs) EXPECT_TRUE(is_lost(run));
  EXPECT_EQ(runs_of(store_->begin(), file_, 0, 3).value().size(), 1u);
}

TEST_F(FsckSharedTest, ARunSealedForNothingDoesNotParse) {
  auto wrong = get<pb::Run>(key::run(clone_, 7));
  wrong.mutable_sealed_for()->set_ino(0);
  damage([&](Transaction& txn) { txn.put(key::run(clone_, 7), wrong); });
  expect_restored("it is written again from the reverse map");
}

TEST_F(FsckSharedTest, ARunInNoStripeIsNotSealedForAnything) {
  auto wrong = get<pb::Run>(key::run(clone_, 7));
  wrong.clear_stripe();
  wrong.clear_first_slot();
  damage([&](Transaction& txn) { txn.put(key::run(clone_, 7), wrong); });
  expect_restored("it is written again from the reverse map");
}

TEST_F(FsckSharedTest, ACloneOutlivesALostRecordOfTheOriginal) {
  damage([&](Transaction& txn) { txn.erase(key::inode(file_)); });
  run(true);
  expect_sound();
  const auto runs = runs_of(store_->begin(), clone_, 7, 2).value();
  ASSERT_EQ(runs.size(), 1u);
  EXPECT_EQ(runs[0].sealed_for().ino(), file_);
}

}  // namespace
}  // namespace datacloud
