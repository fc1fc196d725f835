// Folding and merging where files share slots: all users of a slot move together, or none does, and
// every file keeps its bytes, its sealing and its place.
#include <algorithm>

#include "daemon/fold/stripe_merge.h"
#include "daemon/records/inline_blocks.h"
#include "daemon/records/slot_references.h"
#include "tests/daemon/fold/fold_rig.h"

namespace datacloud {
namespace {

using Kind = FoldOutcome::Kind;
constexpr size_t kBlock = 4096;
constexpr InodeId kClone = 200;

class SharedSlotsTest : public FoldRig {
 protected:
  void TearDown() override { remove_cloud(); }

  void make_files() {
    make_cloud("rs-3-2");
    clones_.clear();
    for (InodeId ino = kClone; ino < kClone + 3; ++ino) {
      pb::CreateRequest request;
      request.set_parent(kRootInode);
      request.set_name("clone" + std::to_string(ino));
      request.set_mode(S_IFREG | 0644);
      request.set_exclusive(true);
      commit([&](Transaction& txn) { return create(txn, request, ino); });
    }
  }

  // Of the rig's file, to a place of its own in the clone.
  void clone(InodeId ino, uint64_t first, uint64_t target, uint64_t count) {
    CloneRange range{kFile, ino, first, target, count};
    range.grow_to = (target + count) * kBlock;
    commit([&](Transaction& txn) { return clone_range(txn, range); });
    for (uint64_t i = 0; i < count; ++i) {
      clones_[{ino, target + i}] = {expected_.at(first + i), first + i};
    }
  }

  // What the clones hold, and that it is still sealed for where it was written.
  void expect_clones() {
    expect_readable();
    for (const auto& [at, expected] : clones_) {
      pb::Run run;
      pb::Stripe stripe;
      on_loop([&] {
        const auto txn = store_->begin();
        const auto runs = runs_of(txn, at.first, at.second, 1).value();
        ASSERT_EQ(runs.size(), 1u);
        run = runs[0];
        stripe = get_stripe(txn, run.stripe()).value().value();
      });
      EXPECT_EQ(run.sealed_for().ino(), kFile);
      EXPECT_EQ(run.sealed_for().first_block(), expected.second);
      const auto slot = static_cast<int>(run.first_slot());
      const auto column = object(stripe, static_cast<int>(stripe.slot_column(slot)));
      ASSERT_TRUE(column);
      const auto begin = column->begin() + stripe.slot_offset(slot);
      EXPECT_EQ(Bytes(begin, begin + stripe.slot_length(slot)), expected.first)
          << "inode " << at.first << " block " << at.second;
    }
  }

  StripeId stripe_of(InodeId ino, uint64_t block) {
    StripeId id = 0;
    on_loop([&] { id = runs_of(store_->begin(), ino, block, 1).value().at(0).stripe(); });
    return id;
  }

  uint32_t shared(StripeId id) {
    pb::StripeLive live;
    on_loop([&] { ASSERT_TRUE(store_->begin().get(key::live(id), live)); });
    return live.shared();
  }

  MergeOutcome merge(const std::vector<StripeId>& ids) {
    std::vector<MergeCandidate> candidates;
    for (const StripeId id : ids) candidates.push_back({id, kind_of(*record(id)), 0, 0});
    const auto outcome = merge_stripes(*context_, *ids_, candidates);
    EXPECT_TRUE(outcome) << outcome.error().message();
    return outcome ? outcome.value() : MergeOutcome();
  }

  // A patch, of any bytes: neither fold nor merge can open one.
  void patch(InodeId ino, uint64_t block, ContentVersion version) {
    commit([&](Transaction& txn) {
      return inline_blocks::put_patch(txn,
                                      {ino, block, version, std::string(100, 'p'), version, 0});
    });
  }
  uint32_t patches(InodeId ino, uint64_t block) {
    uint32_t count = 0;
    on_loop([&] {
      const auto txn = store_->begin();
      const auto runs = runs_of(txn, ino, block, 1).value();
      ASSERT_EQ(runs.size(), 1u);
      const auto records = inline_blocks::read_records(txn, ino, runs[0]);
      ASSERT_TRUE(records) << records.error().message();
      count = static_cast<uint32_t>(records.value().patches.size());
    });
    return count;
  }

  std::map<std::pair<InodeId, uint64_t>, std::pair<Bytes, uint64_t>> clones_;
};

TEST_F(SharedSlotsTest, AFoldLeavesSlotsAloneThatAnotherFileUses) {
  make_files();
  const StripeId base = write(random_blocks(0, 12, kBlock));
  clone(kClone, 1, 100, 1);
  for (const uint64_t block : {1, 5}) write({{block, random_bytes(kBlock)}});
  const auto outcome = fold(base);
  EXPECT_EQ(outcome.kind, Kind::folded) << outcome.reason;
  EXPECT_EQ(outcome.blocks_folded, 1u);  // block 5; slot 1 holds the clone's block
  EXPECT_EQ(stripe_of(kFile, 5), base);
  EXPECT_NE(stripe_of(kFile, 1), base);
  EXPECT_EQ(stripe_of(kClone, 100), base);
  expect_clones();
  expect_audits_clean();
  expect_no_orphans();
}

TEST_F(SharedSlotsTest, AFoldTakesAllUsersOfAnUpdateAlong) {
  make_files();
  const StripeId base = write(random_blocks(0, 12, kBlock));
  write({{5, random_bytes(kBlock)}});
  clone(kClone, 5, 50, 1);
  clone(kClone + 1, 5, 5, 1);
  const auto outcome = fold(base);
  EXPECT_EQ(outcome.kind, Kind::folded) << outcome.reason;
  EXPECT_EQ(outcome.blocks_folded, 3u);
  EXPECT_EQ(all_stripes(), std::vector<StripeId>{base});
  EXPECT_EQ(shared(base), 2u);
  expect_clones();
  expect_audits_clean();
  expect_no_orphans();
}

TEST_F(SharedSlotsTest, AFoldLeavesUpdatesWhereTheyArePatched) {
  make_files();
  const StripeId base = write(random_blocks(0, 12, kBlock));
  for (const uint64_t block : {1, 5, 7}) write({{block, random_bytes(kBlock)}});
  const StripeId patched = stripe_of(kFile, 1), shared_with_one = stripe_of(kFile, 7);
  patch(kFile, 1, 1u << 20);
  clone(kClone, 7, 50, 1);
  patch(kClone, 50, 1u << 21);
  const auto outcome = fold(base);
  EXPECT_EQ(outcome.kind, Kind::folded) << outcome.reason;
  EXPECT_EQ(outcome.blocks_folded, 1u);
  EXPECT_EQ(stripe_of(kFile, 5), base);
  EXPECT_EQ(stripe_of(kFile, 1), patched);
  EXPECT_EQ(stripe_of(kFile, 7), shared_with_one);
  EXPECT_EQ(stripe_of(kClone, 50), shared_with_one);
  EXPECT_EQ(patches(kFile, 1), 1u);
  EXPECT_EQ(patches(kClone, 50), 1u);
  EXPECT_EQ(fold(base).blocks_folded, 0u) << "and nothing is left to try again";
  expect_clones();
  expect_audits_clean();
  expect_no_orphans();
}

TEST_F(SharedSlotsTest, AMergeLeavesStripesWithPatchedBlocks) {
  make_files();
  const StripeId first = write(random_blocks(0, 6, kBlock));
  const StripeId second = write(random_blocks(6, 6, kBlock));
  const StripeId third = write(random_blocks(12, 6, kBlock));
  patch(kFile, 2, 1u << 20);
  const auto outcome = merge({first, second, third});
  EXPECT_EQ(outcome.stripes_made, 1u);
  EXPECT_NE(outcome.obstacle.find("has blocks with patches"), std::string::npos);
  EXPECT_EQ(stripe_of(kFile, 2), first);
  EXPECT_EQ(patches(kFile, 2), 1u);
  EXPECT_FALSE(record(second).has_value());
  EXPECT_FALSE(record(third).has_value());
  expect_readable();
  expect_audits_clean();
  expect_no_orphans();
}

TEST_F(SharedSlotsTest, AMergeMovesAllUsersAndStoresTheirBytesOnce) {
  make_files();
  const StripeId first = write(random_blocks(0, 6, kBlock));
  const StripeId second = write(random_blocks(6, 6, kBlock));
  clone(kClone, 2, 0, 8);
  clone(kClone + 1, 0, 30, 3);
  for (uint64_t block = 0; block < 4; ++block) write({{block, random_bytes(kBlock)}});
  const auto outcome = merge({first, second});
  EXPECT_EQ(outcome.stripes_made, 1u) << outcome.obstacle;
  EXPECT_EQ(outcome.blocks_changed, 0u);
  EXPECT_FALSE(record(first).has_value());
  EXPECT_FALSE(record(second).has_value());
  const auto made = *record(stripe_of(kClone, 0));
  EXPECT_EQ(made.slot_length_size(), 12);  // each block once
  expect_clones();
  expect_audits_clean();
  expect_no_orphans();
}

TEST_F(SharedSlotsTest, ASlotThatGetsAUserMeanwhileStaysWhereItIs) {
  make_files();
  const StripeId base = write(random_blocks(0, 6, kBlock));
  clone(kClone, 0, 0, 2);
  bool done = false;
  on_operation = [&](SiteId, StoreOp op, const std::string&) {
    if (op == StoreOp::put && !std::exchange(done, true)) clone(kClone + 1, 1, 7, 1);
    return Fault();
  };
  const auto outcome = merge({base});
  EXPECT_TRUE(done);
  EXPECT_EQ(outcome.blocks_changed, 2u);  // block 1 of the file and of the clone
  EXPECT_EQ(stripe_of(kFile, 1), base);
  EXPECT_EQ(stripe_of(kClone, 1), base);
  EXPECT_NE(stripe_of(kFile, 0), base);
  EXPECT_EQ(stripe_of(kFile, 0), stripe_of(kClone, 0));
  expect_clones();
  expect_audits_clean();
  expect_no_orphans();
}

// Seeded: writes, clones, folds and merges in any order, with restarts.
TEST_F(SharedSlotsTest, AnythingInAnyOrderKeepsEveryByte) {
  make_files();
  write(random_blocks(0, 12, kBlock));
  for (int step = 0; step < 60 && !HasFailure(); ++step) {
    switch (random_() % 6) {
      case 0:
      case 1: {
        const uint64_t block = random_() % 12;
        write(random_blocks(block, 1 + random_() % std::min<uint64_t>(3, 12 - block), kBlock));
        break;
      }
      case 2:
      case 3: {
        const uint64_t first = random_() % 10;
        clone(kClone + random_() % 3, first, random_() % 20, 1 + random_() % 2);
        break;
      }
      case 4: {
        const auto ids = all_stripes();
        fold(ids[random_() % ids.size()]);
        break;
      }
      default: {
        auto ids = all_stripes();
        std::shuffle(ids.begin(), ids.end(), random_);
        ids.resize(std::min<size_t>(ids.size(), 1 + random_() % 3));
        merge(ids);
        if (random_() % 4 == 0) restart();
      }
    }
    expect_clones();
  }
  expect_audits_clean();
  expect_no_orphans();
}

}  // namespace
}  // namespace datacloud
