// Folds by parity delta: contents, bytes between sites, and everything that may happen meanwhile.
#include "daemon/fold/parity_fold.h"

#include "daemon/fold/fold_scheduler.h"
#include "tests/daemon/fold/parity_fold_rig.h"
#include "tests/support/deriving_store.h"

namespace datacloud {
namespace {

using Kind = FoldOutcome::Kind;
constexpr size_t kBlock = kFoldBlock;

using ParityFoldTest = ParityFoldRig;

TEST_F(ParityFoldTest, UpdatesComeBackAndTheirStripesGo) {
  make_cloud("rs-3-2");
  const StripeId base = write_base();
  overwrite({1, 5, 5, 10});
  const auto before = *record(base);
  const auto outcome = fold(base);
  EXPECT_EQ(outcome.kind, Kind::folded) << outcome.reason;
  EXPECT_EQ(outcome.blocks_folded, 3u);  // block 5 once: only its newest contents count
  EXPECT_EQ(all_stripes(), std::vector<StripeId>{base});
  EXPECT_EQ(records('F'), 0u);
  for (int c = 0; c < 5; ++c) {
    EXPECT_NE(record(base)->shards(c).instance(), before.shards(c).instance()) << "column " << c;
  }
  expect_readable();
  expect_audits_clean();
  expect_no_orphans();
  EXPECT_EQ(fold(base).kind, Kind::nothing);
}

TEST_F(ParityFoldTest, ColumnsThatAreNotTouchedStay) {
  make_cloud("rs-3-2");
  const StripeId base = write_base();
  overwrite({0, 2});
  const auto before = *record(base);
  EXPECT_EQ(fold(base).kind, Kind::folded);
  const auto after = *record(base);
  for (int c : {1, 2}) EXPECT_EQ(after.shards(c).instance(), before.shards(c).instance());
  // Audit blocks that are not touched keep the version of their writer.
  EXPECT_GT(after.shards(0).versions_size(), 1);
  EXPECT_EQ(after.shards(0).versions(1).version(), before.shards(0).instance());
  expect_readable();
  expect_audits_clean();
}

// |U| + R * m blocks change, each of them old and new is read once: nothing else crosses a link.
TEST_F(ParityFoldTest, BytesAreThoseOfTheFormula) {
  make_cloud("rs-6-3");
  const StripeId base = write_base(24);
  for (const auto& [blocks, rows] : std::vector<std::pair<std::vector<uint64_t>, uint64_t>>{
           {{3}, 1}, {{0, 4, 8}, 1}, {{0, 1, 2}, 3}, {{0, 1, 4, 23}, 3}}) {
    overwrite(blocks);
    const auto outcome = fold(base);
    ASSERT_EQ(outcome.kind, Kind::folded) << outcome.reason;
    EXPECT_EQ(outcome.bytes_read, 2 * blocks.size() * kBlock);
    EXPECT_EQ(outcome.change_bytes, (blocks.size() + rows * 3) * kBlock);
  }
  expect_readable();
  expect_audits_clean();
}

class LocalCopiesTest : public ParityFoldTest {
 protected:
  std::unique_ptr<ObjectStore> open_site(SiteId site) override {
    auto store = ParityFoldTest::open_site(site);
    if (plain_sites_.contains(site)) return store;
    return std::make_unique<DerivingStore>(std::move(store));
  }
  std::set<SiteId> plain_sites_;  // that cannot derive by themselves
};

TEST_F(LocalCopiesTest, WhatSitesCopyByThemselvesIsReported) {
  make_cloud("rs-3-2");
  const StripeId base = write_base();
  const uint64_t shard = 4 * kBlock;
  overwrite({1});
  auto outcome = fold(base);
  ASSERT_EQ(outcome.kind, Kind::folded) << outcome.reason;
  EXPECT_EQ(outcome.bytes_copied_at_sites, 3 * shard);  // one data column, two of parity
  EXPECT_LT(outcome.bytes_between_sites, 6 * kBlock);   // 2 blocks read, 3 sent, tags
  // A whole shard changes: more crosses than before, and still less than two shards.
  overwrite({0, 1, 2, 3});
  outcome = fold(base);
  ASSERT_EQ(outcome.kind, Kind::folded) << outcome.reason;
  EXPECT_EQ(outcome.bytes_copied_at_sites, 3 * shard);
  expect_readable();
  expect_audits_clean();
}

TEST_F(LocalCopiesTest, WhereASiteCannotDeriveNothingIsCopiedThere) {
  plain_sites_ = {4};
  make_cloud("rs-3-2");
  const StripeId base = write_base();
  const uint64_t shard = 4 * kBlock;
  overwrite({1});
  auto outcome = fold(base);
  ASSERT_EQ(outcome.kind, Kind::folded) << outcome.reason;
  EXPECT_EQ(outcome.bytes_copied_at_sites, 2 * shard);
  EXPECT_GT(outcome.bytes_between_sites, 2 * shard);
  plain_sites_ = {1, 2, 3, 4, 5};
  restart();
  overwrite({1});
  outcome = fold(base);
  ASSERT_EQ(outcome.kind, Kind::folded) << outcome.reason;
  EXPECT_EQ(outcome.bytes_copied_at_sites, 0u);
  EXPECT_GT(outcome.bytes_between_sites, 6 * shard);
  expect_readable();
}

TEST_F(LocalCopiesTest, AreCountedByTheFolder) {
  make_cloud("rs-3-2");
  write_base();
  overwrite({1, 5, 10});
  FoldScheduler folder(*context_, *ids_, loop_, {.jobs_max = 1, .automatic = false});
  on_loop([&] { folder.sweep_now(); });
  pb::FoldReply reply;
  const auto end = monotonic_now() + seconds(20);
  do {
    on_loop([&] { folder.describe(reply); });
  } while (!reply.idle() && monotonic_now() < end);
  EXPECT_EQ(reply.blocks_folded(), 3u);
  EXPECT_EQ(reply.bytes_copied_at_sites(), 5 * 4 * kBlock);  // three data columns, two of parity
  stop_all();
}

TEST_F(ParityFoldTest, ABlockOverwrittenMeanwhileKeepsTheNewerData) {
  make_cloud("rs-3-2");
  const StripeId base = write_base();
  overwrite({1, 7});
  bool done = false;
  on_operation = [&](SiteId, StoreOp op, const std::string&) {
    if (op == StoreOp::derive && !std::exchange(done, true)) overwrite({1});
    return Fault();
  };
  const auto outcome = fold(base);
  EXPECT_EQ(outcome.kind, Kind::folded) << outcome.reason;
  EXPECT_EQ(outcome.blocks_folded, 1u);
  EXPECT_EQ(outcome.blocks_changed, 1u);
  expect_readable();
  on_operation = nullptr;
  EXPECT_EQ(fold(base).blocks_folded, 1u);
  expect_readable();
  expect_audits_clean();
  expect_no_orphans();
}

TEST_F(ParityFoldTest, ASiteThatGoesAwayMidwayLeavesEverythingAsItWas) {
  make_cloud("rs-3-2");
  const StripeId base = write_base();
  overwrite({1, 7});
  const auto before = *record(base);
  on_operation = [&](SiteId site, StoreOp op, const std::string&) {
    if (op != StoreOp::derive || site != 5) return Fault();
    return Fault{Fault::Kind::fail_before, Error(Errc::timed_out, "late"), {}};
  };
  const auto outcome = fold(base);
  EXPECT_EQ(outcome.kind, Kind::blocked);
  EXPECT_NE(outcome.reason.find("site5"), std::string::npos) << outcome.reason;
  EXPECT_EQ(record(base)->SerializeAsString(), before.SerializeAsString());
  expect_readable();
  expect_no_orphans();
  on_operation = nullptr;
  // Away from the start: nothing is tried.
  sites_->find(5)->set_away("test");
  EXPECT_EQ(fold(base).kind, Kind::blocked);
  // For long: the updates are merged without their stripe.
  FoldOptions late;
  late.blocked_too_long = true;
  EXPECT_EQ(fold(base, late).kind, Kind::merge_updates);
  sites_->find(5)->set_up();
  EXPECT_EQ(fold(base).kind, Kind::folded);
  expect_readable();
}

TEST_F(ParityFoldTest, AnUnknownDerivationIsAbandonedAlthoughItLanded) {
  make_cloud("rs-3-2");
  const StripeId base = write_base();
  overwrite({2});
  on_operation = [&](SiteId site, StoreOp op, const std::string&) {
    if (op != StoreOp::derive || site != 4) return Fault();
    return Fault{Fault::Kind::fail_after, Error(Errc::timed_out, "late"), {}};
  };
  EXPECT_EQ(fold(base).kind, Kind::blocked);
  on_operation = nullptr;
  expect_readable();
  expect_no_orphans();
}

TEST_F(ParityFoldTest, ARottenDeadSlotIsRepairedNotSpread) {
  make_cloud("rs-3-2");
  const StripeId base = write_base();
  overwrite({6});  // column 1, its third block
  const auto before = *record(base);
  Bytes column = *object(before, 1);
  column[2 * kBlock + 17] ^= 0x40;
  ASSERT_TRUE(memory_[1].overwrite(object_name(before, 1), column));
  const auto outcome = fold(base);
  EXPECT_EQ(outcome.kind, Kind::blocked);
  EXPECT_NE(outcome.reason.find("audit block 2"), std::string::npos) << outcome.reason;
  EXPECT_EQ(record(base)->SerializeAsString(), before.SerializeAsString());
  EXPECT_EQ(records('B'), 1u);
  EXPECT_EQ(fold(base).kind, Kind::blocked);  // until repaired
  const auto repaired = StripeRepair(*context_, *ids_, base).run();
  ASSERT_TRUE(repaired);
  EXPECT_EQ(records('B'), 0u);
  EXPECT_EQ(fold(base).kind, Kind::folded);
  expect_readable();
  expect_audits_clean();
  expect_no_orphans();
}

TEST_F(ParityFoldTest, DamageFoundDuringTheFoldIsNotForgotten) {
  make_cloud("rs-3-2");
  const StripeId base = write_base();
  overwrite({6});
  bool done = false;
  on_operation = [&](SiteId, StoreOp op, const std::string&) {
    if (op == StoreOp::derive && !std::exchange(done, true)) {
      const auto stripe = *record(base);
      commit([&](Transaction& txn) {
        return record_damage(txn, damage_of({base, 1, stripe.shards(1).instance()}, 2, "audit"));
      });
    }
    return Fault();
  };
  EXPECT_EQ(fold(base).kind, Kind::changed);
  EXPECT_EQ(records('B'), 1u);
  expect_readable();
  expect_no_orphans();
}

TEST_F(ParityFoldTest, ShorterBlocksFitAndTheirRoomIsKept) {
  make_cloud("rs-3-2");
  const StripeId base = write_base(12, 5000);
  overwrite({3}, 3000);
  EXPECT_EQ(fold(base).kind, Kind::folded);
  EXPECT_EQ(record(base)->slot_length(3), 3000u);
  expect_readable();
  overwrite({3}, 5000);
  EXPECT_EQ(fold(base).kind, Kind::folded);
  EXPECT_EQ(record(base)->slot_length(3), 5000u);
  overwrite({3}, 5001);
  EXPECT_EQ(fold(base).kind, Kind::merge_updates);
  overwrite({4});
  const auto outcome = fold(base);  // the one that fits
  EXPECT_EQ(outcome.blocks_folded, 1u);
  expect_readable();
  expect_audits_clean();
  expect_no_orphans();
}

TEST_F(ParityFoldTest, TruncatedAndRemovedBlocksAreNotLookedFor) {
  make_cloud("rs-3-2");
  const StripeId base = write_base();
  overwrite({11, 4});
  commit([&](Transaction& txn) {
    pb::InodeUpdate update;
    update.set_ino(kFile);
    update.set_truncate_to(10 * 4096);
    return update_inode(txn, update);
  });
  expected_.erase(10);
  expected_.erase(11);
  EXPECT_EQ(fold(base).blocks_folded, 1u);
  expect_readable();
  write(random_blocks(10, 2, kBlock));
  EXPECT_EQ(fold(base).kind, Kind::folded);  // block 11's slot still knows whose it was
  expect_readable();
  expect_audits_clean();
}

TEST_F(ParityFoldTest, VersionsBeyondTheirRunsAreMadeOne) {
  make_cloud("rs-2-1");
  const StripeId base = write_base(160);
  int most = 0;
  for (uint64_t block = 0; block < 80; block += 2) {
    overwrite({block});
    ASSERT_EQ(fold(base).kind, Kind::folded);
    most = std::max(most, record(base)->shards(0).versions_size());
    ASSERT_LE(most, 64);
  }
  EXPECT_GT(most, 50);
  EXPECT_LT(record(base)->shards(0).versions_size(), 40);
  expect_readable();
  expect_audits_clean();
}

TEST_F(ParityFoldTest, CodesOfSeveralPackets) {
  for (const char* profile : {"msr-5-3", "basic-4-8"}) {
    make_cloud(profile);
    const StripeId base = write_base(24);
    overwrite({2, 9, 20});
    const auto outcome = fold(base);
    EXPECT_EQ(outcome.kind, Kind::folded) << profile << ": " << outcome.reason;
    expect_readable();
    expect_audits_clean();
    expect_no_orphans();
    remove_cloud();
  }
}

// Where most blocks of a stripe are new, encoding anew moves less than deltas: the planner says so.
TEST_F(ParityFoldTest, ManyUpdatesAreEncodedAnew) {
  make_cloud("rs-6-3");
  const StripeId base = write_base(6, 3 * kBlock);
  overwrite({0, 1, 2, 3}, 3 * kBlock);
  overwrite({4}, 2 * kBlock);
  const auto before = *record(base);
  const auto outcome = fold(base);
  ASSERT_EQ(outcome.kind, Kind::folded) << outcome.reason;
  EXPECT_EQ(outcome.blocks_folded, 5u);
  EXPECT_EQ(outcome.bytes_read, (1 * 3 + 4 * 3 + 2) * kBlock);  // the others' block, the new ones
  EXPECT_EQ(outcome.change_bytes, 8 * 3 * kBlock);
  EXPECT_EQ(record(base)->shards(5).instance(), before.shards(5).instance());
  expect_readable();
  expect_audits_clean();
  expect_no_orphans();
}

TEST_F(ParityFoldTest, YoungUpdatesWait) {
  make_cloud("rs-3-2");
  const StripeId base = write_base();
  const StripeId old = write({{1, random_bytes(kBlock)}});
  write({{2, random_bytes(kBlock)}});
  FoldOptions options;
  options.is_ripe = [&](StripeId update) { return update == old; };
  EXPECT_EQ(fold(base, options).kind, Kind::waiting);
  options.without_unripe = true;
  EXPECT_EQ(fold(base, options).blocks_folded, 1u);
  expect_readable();
}

// The records that say whose dead slots were are hints: what lives in a slot is never taken for
// dead.
TEST_F(ParityFoldTest, ADamagedHintOverwritesNothing) {
  make_cloud("rs-3-2");
  const StripeId base = write_base();
  overwrite({7});
  const auto hint = [&](uint32_t slot, std::optional<uint32_t> count) {
    commit([&](Transaction& txn) -> result<void> {
      pb::Owner owner;
      owner.set_ino(kFile);
      owner.set_first_block(7);
      owner.set_count(count.value_or(0));
      count ? txn.put(key::former(base, slot), owner) : txn.erase(key::former(base, slot));
      return success();
    });
  };
  hint(0, 1);            // live
  hint(6, UINT32_MAX);   // live, and the dead one, and far beyond
  hint(11, UINT32_MAX);  // live, then beyond
  const auto outcome = fold(base);
  EXPECT_EQ(outcome.kind, Kind::folded) << outcome.reason;
  EXPECT_EQ(outcome.blocks_folded, 1u);
  EXPECT_EQ(all_stripes(), std::vector<StripeId>{base});
  for (const uint32_t slot : {0u, 6u, 8u, 11u}) hint(slot, std::nullopt);
  expect_readable();
  expect_audits_clean();
}

}  // namespace
}  // namespace datacloud
