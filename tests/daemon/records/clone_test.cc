// Rules of clones: what is refused, what is kept, and that a stripe lives as long as any user.
#include <gtest/gtest.h>

#include "daemon/records/slot_references.h"
#include "tests/daemon/records/block_map_fixture.h"

namespace datacloud {
namespace {

constexpr uint32_t kBlock = 4096;

class CloneTest : public BlockMapFixture {
 protected:
  void SetUp() override {
    BlockMapFixture::SetUp();
    a_ = make_file("a");
    b_ = make_file("b");
    write(a_, 0, 5, {100, 200, 300, 400});
  }

  void write(InodeId ino, uint64_t first, StripeId stripe, const std::vector<uint32_t>& lengths) {
    const auto done = apply([&](Transaction& txn) -> result<void> {
      TRY(add_stripe(txn, make_stripe(stripe, lengths)));
      pb::InodeUpdate update;
      update.set_ino(ino);
      *update.add_runs() =
          make_run(first, static_cast<uint32_t>(lengths.size()), stripe, 0, stripe * 1000);
      update.set_grow_to((first + lengths.size()) * kBlock);
      TRY(update_inode(txn, update));
      return success();
    });
    ASSERT_TRUE(done) << done.error().message();
  }

  result<pb::Inode> clone(const CloneRange& range) {
    return apply([&](Transaction& txn) { return clone_range(txn, range); });
  }

  std::vector<pb::Run> map_of(InodeId ino) {
    auto runs = runs_of(store_->begin(), ino, 0, 1000);
    EXPECT_TRUE(runs);
    return runs.value();
  }

  void set_realm(InodeId ino, uint32_t realm) {
    ASSERT_TRUE(apply([&](Transaction& txn) -> result<void> {
      TRY(auto inode, get_inode(txn, ino));
      inode.set_realm(realm);
      txn.put(key::inode(ino), inode);
      return success();
    }));
  }

  Totals totals() { return read_totals(store_->begin()).value(); }
  bool lives(StripeId id) { return get_stripe(store_->begin(), id).value().has_value(); }

  InodeId a_ = 0, b_ = 0;
};

TEST_F(CloneTest, SharesSlotsAndSaysWhatTheyAreSealedFor) {
  const Totals before = totals();
  const auto done = clone({a_, b_, 1, 10, 2, 12 * kBlock, 7});
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_EQ(done.value().blocks_mapped(), 2u);
  const auto runs = map_of(b_);
  ASSERT_EQ(runs.size(), 1u);
  EXPECT_EQ(runs[0].first_block(), 10u);
  EXPECT_EQ(runs[0].first_slot(), 1u);
  EXPECT_EQ(runs[0].sealed_for().ino(), a_);
  EXPECT_EQ(runs[0].sealed_for().first_block(), 1u);
  // Logical bytes count for each file, stored and live ones once.
  EXPECT_EQ(totals().blocks_logical_bytes, before.blocks_logical_bytes + 2 * kBlock);
  EXPECT_EQ(totals().live_bytes, before.live_bytes);
  expect_clean();
}

TEST_F(CloneTest, OfACloneIsSealedForTheOriginalAndComesHomeWithoutSayingSo) {
  ASSERT_TRUE(clone({a_, b_, 0, 10, 4, 14 * kBlock, 7}));
  const InodeId c = make_file("c");
  ASSERT_TRUE(clone({b_, c, 11, 0, 2, 2 * kBlock, 7}));
  const auto runs = map_of(c);
  ASSERT_EQ(runs.size(), 1u);
  EXPECT_EQ(runs[0].sealed_for().ino(), a_);
  EXPECT_EQ(runs[0].sealed_for().first_block(), 1u);
  // Back at the place it was sealed for.
  ASSERT_TRUE(clone({c, a_, 0, 1, 2, 0, 7}));
  for (const auto& run : map_of(a_)) EXPECT_FALSE(run.has_sealed_for());
  expect_clean();
}

TEST_F(CloneTest, AStripeLivesUntilItsLastUserIsGone) {
  ASSERT_TRUE(clone({a_, b_, 0, 0, 4, 4 * kBlock, 7}));
  pb::InodeUpdate cut;
  cut.set_ino(a_);
  cut.set_truncate_to(0);
  ASSERT_TRUE(apply([&](Transaction& txn) { return update_inode(txn, cut); }));
  EXPECT_TRUE(lives(5));
  EXPECT_TRUE(pending().empty());
  expect_clean();
  cut.set_ino(b_);
  cut.set_truncate_to(kBlock);
  ASSERT_TRUE(apply([&](Transaction& txn) { return update_inode(txn, cut); }));
  expect_clean();
  cut.set_truncate_to(0);
  ASSERT_TRUE(apply([&](Transaction& txn) { return update_inode(txn, cut); }));
  EXPECT_FALSE(lives(5));
  EXPECT_EQ(pending().size(), 5u);
  EXPECT_EQ(totals().live_bytes, 0u);
  expect_clean();
}

TEST_F(CloneTest, AnOverwrittenSlotThatOthersUseIsNoHintForFolds) {
  ASSERT_TRUE(clone({a_, b_, 0, 0, 2, 2 * kBlock, 7}));
  write(a_, 0, 6, {100, 100, 100});
  const auto txn = store_->begin();
  std::vector<uint32_t> slots;
  ASSERT_TRUE(txn.scan(key::former(5, 0), key::former(6, 0), [&](auto k, auto) {
    slots.push_back(key::u32_at(k, 9));
    return true;
  }));
  EXPECT_EQ(slots, std::vector<uint32_t>{2});  // 0 and 1 are b's
  expect_clean();
}

TEST_F(CloneTest, TakesHolesToo) {
  write(b_, 0, 6, {100, 100, 100, 100});
  write(a_, 6, 7, {100});
  ASSERT_TRUE(clone({a_, b_, 3, 0, 4, 0, 7}));  // block 3, two holes, block 6
  std::vector<uint64_t> blocks;
  for (const auto& run : map_of(b_)) blocks.push_back(run.first_block());
  EXPECT_EQ(blocks, (std::vector<uint64_t>{0, 3}));
  EXPECT_FALSE(lives(6));
  expect_clean();
}

TEST_F(CloneTest, CommitsOfMountsNeverMapASlotThatHasAUser) {
  ASSERT_TRUE(clone({a_, b_, 0, 0, 4, 4 * kBlock, 7}));
  const auto done = apply([&](Transaction& txn) -> result<void> {
    pb::InodeUpdate update;
    update.set_ino(b_);
    *update.add_runs() = make_run(20, 1, 5, 2, 9000);
    TRY(update_inode(txn, update));
    return success();
  });
  ASSERT_FALSE(done);
  EXPECT_TRUE(done.error().is(Errc::invalid));
  expect_clean();
}

TEST_F(CloneTest, WhatCannotBeSharedIsRefusedAndNothingChanges) {
  const auto refused = [&](const CloneRange& range) {
    const auto done = clone(range);
    EXPECT_FALSE(done);
    return done ? std::error_code() : done.error().code();
  };
  EXPECT_EQ(refused({a_, a_, 0, 2, 3, 0, 7}), make_error_code(Errc::invalid));
  EXPECT_EQ(refused({a_, kRootInode, 0, 0, 1, 0, 7}), make_error_code(Errc::invalid));
  EXPECT_EQ(refused({a_, b_, 0, uint64_t{1} << 60, 1, 0, 7}), std::errc::file_too_large);
  EXPECT_EQ(refused({a_, b_, 0, 0, ~uint64_t{0}, 0, 7}), std::errc::file_too_large);
  set_realm(b_, 1);
  EXPECT_EQ(refused({a_, b_, 0, 0, 1, 0, 7}), std::errc::cross_device_link);
  EXPECT_TRUE(map_of(b_).empty());
  expect_clean();
}

TEST_F(CloneTest, AStripeIsSharedAtMostSoOften) {
  uint64_t count = 0;
  for (; count < stripes::kSharedReferencesMax; ++count) {
    ASSERT_TRUE(clone({a_, b_, 1, 2 * count, 1, 0, 7})) << count;
  }
  const auto done = clone({a_, b_, 1, 2 * count, 1, 0, 7});
  ASSERT_FALSE(done);
  EXPECT_TRUE(done.error().is(Errc::no_space)) << done.error().message();
  expect_clean();
}

}  // namespace
}  // namespace datacloud
