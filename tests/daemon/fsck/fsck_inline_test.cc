// Inline bytes and patches against their runs: what lacks any of a block's bytes is lost and reads
// as an error, never as what it was before; what belongs to nothing goes into quarantine.
#include "daemon/records/inline_blocks.h"
#include "tests/daemon/fsck/fsck_rig.h"

namespace datacloud {
namespace {

std::string sealed(const std::string& text) { return text + std::string(60, '.'); }

class FsckInlineTest : public FsckTest {
 protected:
  // A third file in stripe 7: block 0 has two patches, block 1 is inline with one, block 2 is
  // plain.
  void SetUp() override {
    FsckTest::SetUp();
    list_feature();
    third_ = make(kRootInode, "third", S_IFREG | 0644);
    map(third_, 7);
    const auto done = apply([&](Transaction& txn) -> result<void> {
      TRY(inline_blocks::put_patch(txn, {third_, 0, 1000, sealed("a"), 1, 0}));
      TRY(inline_blocks::put_patch(txn, {third_, 0, 1001, sealed("b"), 2, 0}));
      TRY(inline_blocks::put_block(txn, {third_, 1, 1002, sealed("c"), 3, 0}));
      TRY(inline_blocks::put_patch(txn, {third_, 1, 1003, sealed("d"), 4, 0}));
      return success();
    });
    ASSERT_TRUE(done) << done.error().message();
    EXPECT_EQ(run(false).findings_total(), 0u) << run(false).DebugString();
    expect_clean();
  }
  // As a later version will; this one knows it only as a name.
  void list_feature() {
    pb::Features features;
    features.add_features()->set_name(inline_blocks::kFeature);
    damage([&](Transaction& txn) { txn.put(key::meta("features"), features); });
  }
  pb::Run stored(uint64_t block) { return get<pb::Run>(key::run(third_, block)); }
  void change(uint64_t block, const std::function<void(pb::Run&)>& change) {
    pb::Run run = stored(block);
    change(run);
    damage([&](Transaction& txn) { txn.put(key::run(third_, block), run); });
  }
  bool exists(const std::string& k) { return store_->begin().get(k).value().has_value(); }
  bool quarantined(const std::string& k) { return exists(key::quarantine(k)); }
  // Found, mended, and the block is lost with all its records; the other one is as it was.
  void expect_lost(uint64_t block, const std::string& text) {
    expect_mended(text);
    expect_clean();
    EXPECT_TRUE(is_lost(stored(block)));
    EXPECT_EQ(stored(block).patches(), 0u);
    EXPECT_FALSE(exists(key::inline_block(third_, block)));
    for (ContentVersion v = 1000; v < 1020; ++v) EXPECT_FALSE(exists(key::patch(third_, block, v)));
    EXPECT_TRUE(quarantined(key::run(third_, block)));
    const uint64_t other = 1 - block;
    EXPECT_TRUE(inline_blocks::read_records(store_->begin(), third_, stored(other)));
    EXPECT_EQ(stored(other).patches(), other == 0 ? 2u : 1u);
  }

  InodeId third_ = 0;
};

TEST_F(FsckInlineTest, ALostPatchMakesItsBlockLost) {
  damage([&](Transaction& txn) { txn.erase(key::patch(third_, 0, 1001)); });
  expect_lost(0, "has 1 patches, its run counts 2");
  EXPECT_TRUE(quarantined(key::patch(third_, 0, 1000)));
}

TEST_F(FsckInlineTest, LostInlineBytesMakeTheirBlockLost) {
  damage([&](Transaction& txn) { txn.erase(key::inline_block(third_, 1)); });
  expect_lost(1, "is inline, and its bytes are missing");
}

TEST_F(FsckInlineTest, InlineBytesThatAreNoSealedBlockMakeItLost) {
  damage([&](Transaction& txn) { txn.put(key::inline_block(third_, 1), std::string("short")); });
  expect_lost(1, "has 5 inline bytes, which are no sealed block");
  EXPECT_TRUE(quarantined(key::inline_block(third_, 1)));
}

TEST_F(FsckInlineTest, APatchThatIsNoneMakesItsBlockLost) {
  damage([&](Transaction& txn) { txn.put(key::patch(third_, 0, 1000), std::string("short")); });
  expect_lost(0, "which is no sealed patch");
}

TEST_F(FsckInlineTest, ARunThatCountsTooFewPatchesCountsAll) {
  change(0, [](pb::Run& run) { run.set_patches(1); });
  expect_mended("has 2 patches, its run counts 1");
  EXPECT_EQ(stored(0).patches(), 2u);
  // As after the run was written again from the reverse map, which knows of no patches.
  damage([&](Transaction& txn) { txn.erase(key::run(third_, 0)); });
  run(true);
  expect_sound();
  EXPECT_EQ(stored(0).patches(), 2u);
  EXPECT_EQ(stored(0).stripe(), 7u);
}

TEST_F(FsckInlineTest, APatchWithoutBaseGoes) {
  damage([&](Transaction& txn) { txn.put(key::patch(third_, 2, 2000), sealed("x")); });
  change(2, [](pb::Run& run) { run.clear_stripe(); });
  run(true);
  expect_sound();
  EXPECT_FALSE(exists(key::patch(third_, 2, 2000)));
  damage([&](Transaction& txn) { txn.put(key::patch(third_, 9, 2000), sealed("x")); });
  expect_mended("patch 2000 of block 9 of inode " + std::to_string(third_) +
                ", which has nothing it could change");
  EXPECT_TRUE(quarantined(key::patch(third_, 9, 2000)));
  damage([&](Transaction& txn) { txn.put(key::patch(file_, 1, 2000), sealed("x")); });
  expect_mended("which has nothing it could change");  // inside a run of several blocks
}

TEST_F(FsckInlineTest, APatchOlderThanItsBlockIsOutOfOrder) {
  damage([&](Transaction& txn) { txn.put(key::patch(third_, 0, 3), sealed("x")); });
  expect_mended("out of order");
  EXPECT_EQ(stored(0).patches(), 2u);
  EXPECT_TRUE(inline_blocks::read_records(store_->begin(), third_, stored(0)));
}

TEST_F(FsckInlineTest, TooManyPatchesMakeTheirBlockLost) {
  damage([&](Transaction& txn) {
    for (ContentVersion v = 1002; v < 1066; ++v) txn.put(key::patch(third_, 0, v), sealed("x"));
  });
  change(0, [](pb::Run& run) { run.set_patches(65); });
  expect_lost(0, "of at most 64");
}

TEST_F(FsckInlineTest, InlineBytesOfNoInlineRunGo) {
  damage([&](Transaction& txn) {
    txn.put(key::inline_block(third_, 2), sealed("x"));
    txn.put(key::inline_block(third_, 9), sealed("y"));
    txn.put(key::inline_block(987, 0), sealed("z"));
  });
  expect_mended("inline bytes of block 2 of inode " + std::to_string(third_) +
                ", which is not inline");
  EXPECT_TRUE(quarantined(key::inline_block(third_, 2)));
  EXPECT_TRUE(quarantined(key::inline_block(third_, 9)));
  EXPECT_TRUE(quarantined(key::inline_block(987, 0)));
}

TEST_F(FsckInlineTest, AnInlineRunThatNamesAStripeIsWhereTheReverseMapSays) {
  change(1, [](pb::Run& run) { run.set_stripe(7); });
  expect_mended("is inline and names stripe 7");
  EXPECT_TRUE(stored(1).inline_());
  EXPECT_EQ(stored(1).stripe(), 0u);
  EXPECT_EQ(inline_blocks::read_records(store_->begin(), third_, stored(1)).value().block,
            sealed("c"));
  change(2, [](pb::Run& run) { run.set_inline_(true); });
  expect_mended("is inline and names stripe 7");
  EXPECT_FALSE(stored(2).inline_());
  EXPECT_EQ(stored(2).stripe(), 7u);
}

TEST_F(FsckInlineTest, ARunOfSeveralBlocksHasNone) {
  auto run_of_file = get<pb::Run>(key::run(file_, 0));
  run_of_file.set_patches(1);
  damage([&](Transaction& txn) { txn.put(key::run(file_, 0), run_of_file); });
  expect_mended("does not parse");
  EXPECT_EQ(get<pb::Run>(key::run(file_, 0)).patches(), 0u);
  EXPECT_EQ(get<pb::Run>(key::run(file_, 0)).count(), 3u);
}

TEST_F(FsckInlineTest, KeysThatAreNoneGo) {
  damage([&](Transaction& txn) {
    txn.put("V1", sealed("x"));
    txn.put(key::inline_block(third_, 1) + "more", sealed("x"));
    txn.put(key::patch(third_, 0, 1) + "more", sealed("x"));
  });
  expect_mended("under a key that is none");
  EXPECT_EQ(stored(1).patches(), 1u);
}

TEST_F(FsckInlineTest, TheFeatureThatTheyNeedIsSwitchedOn) {
  damage([](Transaction& txn) { txn.erase(key::meta("features")); });
  const auto seen = run(true);
  ASSERT_EQ(seen.findings_total(), 1u) << seen.DebugString();
  EXPECT_THAT(seen.findings(0).text(), testing::HasSubstr("need the feature \"inline\""));
  EXPECT_TRUE(seen.findings(0).mended());
  EXPECT_EQ(run(true).findings_total(), 0u);
  EXPECT_EQ(stored(0).patches(), 2u) << "and nothing is lost by looking";
}

TEST_F(FsckInlineTest, RandomDamageIsMendedAltogether) {
  std::mt19937_64 random(test_seed());
  for (int round = 0; round < 60; ++round) {
    if (round > 0) {
      TearDown();
      SetUp();
    }
    damage([&](Transaction& txn) {
      for (uint64_t steps = 1 + random() % 3; steps > 0; --steps) {
        const uint64_t block = random() % 3;
        const ContentVersion version = 998 + random() % 8;
        switch (random() % 6) {
          case 0:
            txn.erase(key::patch(third_, block, version));
            break;
          case 1:
            txn.put(key::patch(third_, block, version), sealed("x"));
            break;
          case 2:
            txn.erase(key::inline_block(third_, block));
            break;
          case 3:
            txn.put(key::inline_block(third_, block), std::string(random() % 100, 'v'));
            break;
          case 4:
            txn.erase(key::run(third_, block));
            break;
          default: {
            pb::Run run;
            if (!txn.get(key::run(third_, block), run).value()) break;
            if (random() % 2) run.set_patches(static_cast<uint32_t>(random() % 4));
            if (random() % 3 == 0) run.set_inline_(!run.inline_());
            if (random() % 3 == 0) run.set_stripe(random() % 2 ? 7 : 0);
            txn.put(key::run(third_, block), run);
          }
        }
      }
    });
    run(true);
    expect_sound();
    const auto left = runs_of(store_->begin(), third_, 0, 10);
    for (const auto& run : left.value()) {
      EXPECT_TRUE(inline_blocks::read_records(store_->begin(), third_, run));
    }
  }
}

}  // namespace
}  // namespace datacloud
