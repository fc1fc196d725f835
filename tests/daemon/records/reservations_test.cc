// What fallocate reserves, against a model of single blocks: ranges, counts and sums after random
// changes, and each rule by itself.
#include "daemon/records/reservations.h"

#include <set>

#include "common/base/inode_flags.h"
#include "daemon/records/trees.h"
#include "tests/daemon/records/block_map_fixture.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

using reservations::Held;

class ReservationsTest : public BlockMapFixture {
 protected:
  void SetUp() override {
    BlockMapFixture::SetUp();
    file_ = make_file("file");
  }
  pb::Inode inode(InodeId ino) { return get_inode(store_->begin(), ino).value(); }
  Held held(InodeId ino) { return Held::of(store_->begin(), inode(ino)).value(); }
  void update(const std::function<void(pb::InodeUpdate&)>& change) {
    const auto done = apply([&](Transaction& txn) -> result<void> {
      pb::InodeUpdate update;
      update.set_ino(file_);
      change(update);
      TRY(update_inode(txn, update));
      return success();
    });
    ASSERT_TRUE(done) << done.error().message();
  }
  static void add(pb::BlockRange* range, uint64_t first, uint64_t count) {
    range->set_first(first);
    range->set_count(count);
  }
  void reserve(uint64_t first, uint64_t count) {
    update([&](pb::InodeUpdate& u) { add(u.add_reserve(), first, count); });
  }
  void punch(uint64_t first, uint64_t count) {
    update([&](pb::InodeUpdate& u) { add(u.add_unreserve(), first, count); });
  }
  void truncate(uint64_t blocks) {
    update([&](pb::InodeUpdate& u) { u.set_truncate_to(blocks * 4096); });
  }
  void write(uint64_t first, uint32_t count) {
    const auto done = apply([&](Transaction& txn) -> result<void> {
      const StripeId stripe = next_stripe_++;
      TRY(add_stripe(txn, make_stripe(stripe, std::vector<uint32_t>(count, 100))));
      pb::InodeUpdate update;
      update.set_ino(file_);
      *update.add_runs() = make_run(first, count, stripe, 0, stripe * 1000);
      update.set_grow_to((first + count) * 4096);
      TRY(update_inode(txn, update));
      return success();
    });
    ASSERT_TRUE(done) << done.error().message();
  }
  uint64_t total() { return reservations::total(reservations::demand(store_->begin()).value()); }

  InodeId file_ = 0;
  StripeId next_stripe_ = 1;
};

TEST_F(ReservationsTest, FollowAModelOfBlocks) {
  Seeded random;
  std::set<uint64_t> reserved, mapped;
  constexpr uint64_t kBlocks = 40;
  for (int step = 0; step < 400; ++step) {
    const uint64_t first = random.number(0, kBlocks - 1);
    const uint64_t count = random.number(1, 9);
    const auto each = [&](const std::function<void(uint64_t)>& change) {
      for (uint64_t block = first; block < first + count; ++block) change(block);
    };
    switch (random.number(0, 6)) {
      case 0:
      case 1:
        reserve(first, count);
        each([&](uint64_t block) { reserved.insert(block); });
        break;
      case 2:
        punch(first, count);
        each([&](uint64_t block) { reserved.erase(block), mapped.erase(block); });
        break;
      case 3: {  // zero: emptied and reserved at once
        update([&](pb::InodeUpdate& u) {
          add(u.add_unreserve(), first, count);
          add(u.add_reserve(), first, count);
        });
        each([&](uint64_t block) { reserved.insert(block), mapped.erase(block); });
        break;
      }
      case 4:
      case 5:
        write(first, static_cast<uint32_t>(count));
        each([&](uint64_t block) { mapped.insert(block); });
        break;
      default:
        truncate(first);
        reserved.erase(reserved.lower_bound(first), reserved.end());
        mapped.erase(mapped.lower_bound(first), mapped.end());
    }
    const auto now = held(file_);
    std::set<uint64_t> blocks;
    for (const auto& range : now.ranges()) {
      for (uint64_t block = range.first; block < range.end; ++block) blocks.insert(block);
    }
    ASSERT_EQ(blocks, reserved) << "step " << step;
    uint64_t empty = 0;
    for (const uint64_t block : reserved) empty += mapped.contains(block) ? 0 : 1;
    const auto record = inode(file_);
    ASSERT_EQ(record.blocks_reserved(), empty) << "step " << step;
    ASSERT_EQ(record.blocks_mapped(), mapped.size()) << "step " << step;
    ASSERT_EQ((record.flags() & kInodeReserved) != 0, !reserved.empty());
    ASSERT_EQ(total(), reserved.size() * 4096);
    if (step % 20 == 0) expect_clean();
  }
  expect_clean();
}

TEST_F(ReservationsTest, LastAcrossOverwritesAndGoWithTheFile) {
  reserve(2, 10);
  write(2, 5);
  write(2, 5);
  EXPECT_EQ(total(), 10u * 4096);
  EXPECT_EQ(inode(file_).blocks_reserved(), 5u);
  const auto gone = apply([&](Transaction& txn) -> result<void> {
    auto record = get_inode(txn, file_).value();
    pb::UnlinkRequest request;
    request.set_parent(kRootInode);
    request.set_name("file");
    TRY(unlink(txn, request));
    TRY(reclaim_inode(txn, file_, 1000));
    return success();
  });
  ASSERT_TRUE(gone) << gone.error().message();
  EXPECT_EQ(total(), 0u);
  EXPECT_FALSE(store_->begin().get(key::reservation(file_)).value());
  expect_clean();
}

TEST_F(ReservationsTest, ManyHolesCostTheSmallestRanges) {
  reserve(0, 4 * reservations::kRangesMax);
  for (uint64_t i = 0; i <= reservations::kRangesMax; ++i) punch(3 * i + 1, 1);
  const auto now = held(file_);
  EXPECT_EQ(now.ranges().size(), reservations::kRangesMax);
  EXPECT_EQ(now.ranges().back().end, 4 * reservations::kRangesMax) << "the large one stays";
  EXPECT_EQ(now.ranges().front().first, 5u) << "the smallest have gone: block 0, then 2 and 3";
  EXPECT_EQ(inode(file_).blocks_reserved(), now.blocks());
  pb::InodeUpdate more;
  more.set_ino(file_);
  add(more.add_reserve(), 1'000'000, 1);
  const auto planned = reservations::plan(store_->begin(), inode(file_), more);
  EXPECT_TRUE(planned.value().too_many_ranges);
  EXPECT_EQ(planned.value().blocks, 1);
  expect_clean();
}

TEST_F(ReservationsTest, AreNotInheritedByClones) {
  reserve(0, 4);
  write(0, 3);
  const InodeId copy = make_file("copy");
  const auto done = apply([&](Transaction& txn) -> result<void> {
    TRY(clone_range(txn, {.source = file_, .target = copy, .count = 3, .grow_to = 3 * 4096}));
    return success();
  });
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_EQ(held(copy).blocks(), 0u);
  EXPECT_EQ(total(), 4u * 4096);
  // But a clone into reserved blocks fills them.
  const auto back = apply([&](Transaction& txn) -> result<void> {
    TRY(clone_range(
        txn, {.source = copy, .target = file_, .target_block = 3, .count = 1, .grow_to = 0}));
    return success();
  });
  ASSERT_TRUE(back) << back.error().message();
  EXPECT_EQ(inode(file_).blocks_reserved(), 0u);
  expect_clean();
}

TEST_F(ReservationsTest, CoverOnlyWhatIsReserved) {
  reserve(4, 4);
  const auto covers = [&](uint64_t first, uint32_t count) {
    pb::InodeUpdate update;
    update.set_ino(file_);
    *update.add_runs() = make_run(first, count, 1, 0, 1);
    return reservations::covers(store_->begin(), inode(file_), update).value();
  };
  EXPECT_TRUE(covers(4, 4));
  EXPECT_TRUE(covers(5, 1));
  EXPECT_FALSE(covers(3, 2));
  EXPECT_FALSE(covers(7, 2));
  const auto map = [&] {
    pb::MapRequest request;
    request.set_ino(file_);
    request.set_first_block(6);
    request.set_blocks(100);
    return read_map(store_->begin(), request).value();
  }();
  ASSERT_EQ(map.reserved_size(), 1);
  EXPECT_EQ(map.reserved(0).first(), 6u);
  EXPECT_EQ(map.reserved(0).count(), 2u);
}

TEST_F(ReservationsTest, MoveWithTheInodeToAnotherTree) {
  reserve(0, 4);
  const auto done = apply([&](Transaction& txn) -> result<void> {
    auto record = get_inode(txn, file_).value();
    TRY(trees::move_inode(txn, record, 7));
    txn.put(key::inode(file_), record);
    return success();
  });
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_EQ(total(), 4u * 4096);
  const auto of = [&](uint32_t tree) {
    return reservations::total(reservations::demand_of_tree(store_->begin(), tree).value());
  };
  EXPECT_EQ(of(7), 4u * 4096);
  EXPECT_EQ(of(0), 0u);
}

TEST_F(ReservationsTest, RangesInAnyOrderMeanTheirBlocks) {
  pb::Reservation record;
  add(record.add_ranges(), 10, 5);
  add(record.add_ranges(), 0, 3);
  add(record.add_ranges(), 3, 2);   // touches
  add(record.add_ranges(), 12, 8);  // overlaps
  add(record.add_ranges(), 40, 0);
  add(record.add_ranges(), UINT64_MAX, 2);
  const std::vector<reservations::Range> right{{0, 5}, {10, 20}};
  EXPECT_EQ(Held::of(record).ranges(), right);
}

}  // namespace
}  // namespace datacloud
