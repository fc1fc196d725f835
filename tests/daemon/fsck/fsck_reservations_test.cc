// Each kind of damage to what files have reserved.
#include <sys/stat.h>

#include "common/base/inode_flags.h"
#include "daemon/records/cloud_features.h"
#include "daemon/records/reservations.h"
#include "tests/daemon/fsck/fsck_rig.h"

namespace datacloud {
namespace {

class FsckReservationsTest : public FsckTest {
 protected:
  void SetUp() override {
    FsckTest::SetUp();
    damage([&](Transaction& txn) {
      ASSERT_TRUE(enable_feature(txn, Feature::reservations, store_->sequence() + 1));
    });
    const auto done = apply([&](Transaction& txn) -> result<void> {
      pb::InodeUpdate update;  // blocks 0 to 2 have contents
      update.set_ino(file_);
      add(*update.add_reserve(), 1, 5);
      add(*update.add_reserve(), 20, 2);
      TRY(update_inode(txn, update));
      return success();
    });
    ASSERT_TRUE(done) << done.error().message();
    const auto clean = run(false);
    EXPECT_EQ(clean.findings_total(), 0u) << clean.DebugString();
  }
  static void add(pb::BlockRange& range, uint64_t first, uint64_t count) {
    range.set_first(first);
    range.set_count(count);
  }
  pb::Inode inode() { return get<pb::Inode>(key::inode(file_)); }
  void change(const std::function<void(pb::Inode&)>& change) {
    damage([&](Transaction& txn) {
      auto inode = get<pb::Inode>(key::inode(file_));
      change(inode);
      txn.put(key::inode(file_), inode);
    });
  }
  uint64_t total() { return reservations::total(reservations::demand(store_->begin()).value()); }
  void expect_kept() {
    EXPECT_EQ(inode().blocks_reserved(), 5u);
    EXPECT_TRUE(inode().flags() & kInodeReserved);
    EXPECT_EQ(total(), 7u * 4096);
    expect_clean();
  }
  void expect_given_back() {
    EXPECT_EQ(inode().blocks_reserved(), 0u);
    EXPECT_FALSE(inode().flags() & kInodeReserved);
    EXPECT_EQ(total(), 0u);
    expect_clean();
  }
};

TEST_F(FsckReservationsTest, AMissingRecordHasReservedNothing) {
  damage([&](Transaction& txn) { txn.erase(key::reservation(file_)); });
  expect_mended("has no record of what it has reserved");
  expect_given_back();
}

TEST_F(FsckReservationsTest, ARecordThatDoesNotParseGivesBack) {
  damage([&](Transaction& txn) { txn.put(key::reservation(file_), std::string("\xff\xff")); });
  expect_mended("does not parse");
  expect_given_back();
}

TEST_F(FsckReservationsTest, AnInodeThatDoesNotKnowIsTold) {
  change([](pb::Inode& inode) {
    inode.set_flags(inode.flags() & ~kInodeReserved);
    inode.set_blocks_reserved(0);
  });
  expect_mended("does not know of its reservation");
  expect_kept();
}

TEST_F(FsckReservationsTest, AWrongCountIsSet) {
  change([](pb::Inode& inode) { inode.set_blocks_reserved(77); });
  expect_mended("5 blocks are reserved and empty, 77 are counted");
  expect_kept();
}

TEST_F(FsckReservationsTest, OverlappingRangesBecomeOne) {
  damage([&](Transaction& txn) {
    pb::Reservation record;
    add(*record.add_ranges(), 20, 2);
    add(*record.add_ranges(), 1, 3);
    add(*record.add_ranges(), 2, 4);
    txn.put(key::reservation(file_), record);
  });
  expect_mended("overlap, touch or are not in order");
  expect_kept();
  EXPECT_EQ(get<pb::Reservation>(key::reservation(file_)).ranges_size(), 2);
}

TEST_F(FsckReservationsTest, RangesOfADeadInodeGo) {
  damage([&](Transaction& txn) {
    pb::Reservation record;
    add(*record.add_ranges(), 1, 3);
    txn.put(key::reservation(777), record);
  });
  expect_mended("a reservation belongs to inode 777, which does not exist");
  EXPECT_FALSE(store_->begin().get(key::reservation(777)).value());
  expect_kept();
}

TEST_F(FsckReservationsTest, RangesOfADirectoryGo) {
  damage([&](Transaction& txn) {
    pb::Reservation record;
    add(*record.add_ranges(), 1, 3);
    txn.put(key::reservation(directory_), record);
  });
  expect_mended("is not of a file");
  EXPECT_FALSE(store_->begin().get(key::reservation(directory_)).value());
  expect_kept();
}

TEST_F(FsckReservationsTest, SumsAreCountedAnew) {
  damage([&](Transaction& txn) {
    txn.put(key::reserved_sum(0, "rs-3-2"), reservations::sum_value(4096));
    txn.put(key::reserved_sum(5, "rs-4-2"), reservations::sum_value(4096));
    txn.put(std::string("h"), std::string("x"));
  });
  expect_mended("28672 bytes are reserved under rs-3-2 in tree 0, 4096 are counted");
  expect_kept();
  damage([&](Transaction& txn) { txn.erase(key::reserved_sum(0, "rs-3-2")); });
  expect_mended("28672 bytes are reserved under rs-3-2 in tree 0, 0 are counted");
  expect_kept();
}

TEST_F(FsckReservationsTest, NeedTheirFeature) {
  damage([&](Transaction& txn) { txn.put(key::meta("features"), pb::Features()); });
  expect_mended("and 1 more need the feature");
  expect_kept();
}

}  // namespace
}  // namespace datacloud
