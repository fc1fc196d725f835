// Folds by parity delta: contents, bytes between sites, and everything that may happen meanwhile.
#include "tests/daemon/fold/fold_rig.h"

#include "daemon/fold/fold_scheduler.h"
#include "tests/support/deriving_store.h"

namespace datacloud {
namespace {

using Kind = FoldOutcome::Kind;
constexpr size_t kBlock = 4096;

class ParityFoldTest : public FoldRig {
 protected:
  void TearDown() override { remove_cloud(); }

  // Three data columns of four blocks each, then updates of some.
  StripeId write_base(size_t blocks = 12, size_t bytes = kBlock) {
    return write(random_blocks(0, blocks, bytes));
  }
  void overwrite(const std::vector<uint64_t>& blocks, size_t bytes = kBlock) {
    for (const uint64_t block : blocks) write({{block, random_bytes(bytes)}});
  }
  size_t records(char kind) {
    size_t count = 0;
    on_loop([&] {
      EXPECT_TRUE(store_->begin().scan(std::string(1, kind), std::string(1, char(kind + 1)),
                                       [&](std::string_view, std::string_view) {
                                         ++count;
                                         return true;
                                       }));
    });
    return count;
  }
};

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

class FoldSchedulerTest : public ParityFoldTest {
 protected:
  pb::FoldReply sweep(FoldScheduler& folder) {
    on_loop([&] { folder.sweep_now(); });
    pb::FoldReply reply;
    const auto end = monotonic_now() + seconds(30);
    do {
      std::this_thread::sleep_for(milliseconds(2));
      on_loop([&] { folder.describe(reply); });
    } while (!reply.idle() && monotonic_now() < end);
    EXPECT_TRUE(reply.idle());
    return reply;
  }
};

TEST_F(FoldSchedulerTest, APassFoldsEverythingAndSpaceComesBack) {
  make_cloud("rs-3-2");
  for (uint64_t stripe = 0; stripe < 4; ++stripe) write(random_blocks(400 * stripe, 400, kBlock));
  uint64_t fresh = 0;
  on_loop([&] { fresh = read_totals(store_->begin()).value().stored_bytes; });
  for (int i = 0; i < 120; ++i) overwrite({random_() % 1600});
  FoldScheduler folder(*context_, *ids_, loop_, {.automatic = false});
  const auto reply = sweep(folder);
  EXPECT_EQ(reply.failures(), 0u) << reply.last_failure();
  EXPECT_EQ(reply.stripes_blocked(), 0u);
  EXPECT_GT(reply.blocks_folded(), 90u);
  EXPECT_EQ(all_stripes().size(), 4u);
  on_loop([&] { EXPECT_EQ(read_totals(store_->begin()).value().stored_bytes, fresh); });
  expect_readable();
  expect_audits_clean();
  expect_no_orphans();
  stop_all();
}

// A file that grows block by block, each durable before the next: every block moves once, into a
// stripe that stays.
TEST_F(FoldSchedulerTest, AppendsEndUpInLargeStripesAndMoveOnce) {
  make_cloud("rs-2-1");
  FoldScheduler folder(*context_, *ids_, loop_,
                       {.age = Duration::zero(), .pause = Duration::zero()});
  on_loop([&] { folder.start(); });
  pb::FoldReply reply;
  const auto append = [&](uint64_t first, uint64_t until) {
    for (uint64_t b = first; b < until; ++b) write({{b, random_bytes(2 * kBlock)}});
    const auto end = monotonic_now() + seconds(30);
    while (reply.blocks_moved() < until - 400 && monotonic_now() < end) {
      std::this_thread::sleep_for(milliseconds(50));
      on_loop([&] { folder.describe(reply); });
    }
  };
  append(0, 900);
  append(900, 1800);
  EXPECT_GE(reply.blocks_moved(), 1400u);
  EXPECT_LE(reply.blocks_moved(), 1800u);
  EXPECT_LE(reply.bytes_read(), 1800 * 2 * kBlock);
  EXPECT_LT(all_stripes().size(), 450u);
  EXPECT_EQ(reply.failures(), 0u) << reply.last_failure();
  stop_all();
}

// Small stripes of files with three policies, written in turn.
TEST_F(FoldSchedulerTest, MergesKeepTheSizeOfShardsAndTheHome) {
  make_cloud("rs-3-2");
  constexpr uint32_t kShard = 64 << 10;
  using Kind = std::pair<uint32_t, SiteId>;
  for (uint64_t i = 0; i < 30; ++i) {
    for (const Kind& kind : {Kind{kShard, 2}, {kShard, 4}, {0, 2}}) {
      std::tie(shard_bytes_, home_site_) = kind;
      write(random_blocks(expected_.size(), 2, kBlock));
    }
  }
  FoldScheduler folder(*context_, *ids_, loop_, {.automatic = false});
  const auto reply = sweep(folder);
  EXPECT_EQ(reply.failures(), 0u) << reply.last_failure();
  EXPECT_EQ(reply.blocks_moved(), 180u);
  std::map<Kind, int> blocks, stripes;
  for (const StripeId id : all_stripes()) {
    const auto stripe = *record(id);
    const Kind kind{stripe.shard_bytes(), stripe.home_site()};
    blocks[kind] += stripe.slot_length_size();
    ++stripes[kind];
    EXPECT_LE(stripe.parity_bytes(), shard_bytes_of(stripe.shard_bytes()));
    for (const int c : {0, 1}) EXPECT_EQ(stripe.shards(c).home_site(), stripe.home_site());
    for (const int c : {2, 3, 4}) EXPECT_NE(stripe.shards(c).home_site(), stripe.home_site());
  }
  EXPECT_EQ(blocks, (std::map<Kind, int>{{{kShard, 2}, 60}, {{kShard, 4}, 60}, {{0, 2}, 60}}));
  EXPECT_EQ(stripes, (std::map<Kind, int>{{{kShard, 2}, 2}, {{kShard, 4}, 2}, {{0, 2}, 1}}));
  expect_readable();
  expect_audits_clean();
  stop_all();
}

// Three batches are ready at once, one of each policy. Gaps between operations tell jobs apart: in
// a job they take turns, every 40 ms.
TEST_F(FoldSchedulerTest, OnItsOwnItRestsAfterEachMerge) {
  make_cloud("rs-3-2");
  shard_bytes_ = 64 << 10;
  for (const SiteId home : {1, 2, 3}) {
    home_site_ = home;
    for (int i = 0; i < 3; ++i) write(random_blocks(expected_.size(), 11, kBlock));
  }
  std::mutex mutex;
  std::vector<MonotonicTime> times;
  on_operation = [&](SiteId, StoreOp op, const std::string&) {
    if (op == StoreOp::remove || op == StoreOp::list) return Fault();
    std::lock_guard lock(mutex);
    times.push_back(monotonic_now());
    return Fault{Fault::Kind::delay, {}, milliseconds(40)};
  };
  FoldScheduler folder(*context_, *ids_, loop_,
                       {.age = Duration::zero(), .pause = Duration::zero()});
  on_loop([&] { folder.start(); });
  pb::FoldReply reply;
  const auto end = monotonic_now() + seconds(30);
  while (reply.stripes_merged() < 9 && monotonic_now() < end) {
    std::this_thread::sleep_for(milliseconds(10));
    on_loop([&] { folder.describe(reply); });
  }
  EXPECT_EQ(reply.stripes_merged(), 9u);
  EXPECT_EQ(reply.stripes_made(), 3u);
  on_operation = nullptr;
  int rests = 0;
  for (size_t i = 1; i < times.size(); ++i) rests += times[i] - times[i - 1] >= milliseconds(110);
  EXPECT_GE(rests, 2);
  expect_readable();
  stop_all();
}

TEST_F(FoldSchedulerTest, FullStripesOfSmallShardsAreNotMergedAgainAndAgain) {
  make_cloud("rs-3-2");
  shard_bytes_ = 64 << 10;
  for (uint64_t i = 0; i < 4; ++i) write(random_blocks(48 * i, 48, kBlock));  // 192 KiB, full
  for (uint64_t i = 0; i < 30; ++i) write(random_blocks(200 + i, 1, kBlock));
  FoldScheduler folder(*context_, *ids_, loop_, {.automatic = false});
  auto reply = sweep(folder);
  EXPECT_EQ(reply.stripes_merged(), 30u);
  EXPECT_EQ(all_stripes().size(), 5u);
  for (int again = 0; again < 2; ++again) reply = sweep(folder);
  EXPECT_EQ(reply.stripes_merged(), 30u);
  expect_readable();
  stop_all();
}

TEST_F(FoldSchedulerTest, ThePlannerKnowsTheSizeOfTheShards) {
  make_cloud("rs-3-2");
  const auto most = [&](StripeId base) {
    uint64_t bytes = 0;
    on_loop([&] {
      const auto now = fold_snapshot(*context_, store_->begin(), base, nullptr).value();
      bytes = now.value().problem(*context_).shard_bytes_max;
    });
    return bytes;
  };
  EXPECT_EQ(most(write(random_blocks(0, 12, kBlock))), 4u << 20);
  shard_bytes_ = 64 << 10;
  EXPECT_EQ(most(write(random_blocks(20, 12, kBlock))), 64u << 10);
  EXPECT_EQ(most(write(random_blocks(40, 48, kBlock + 44))), 16u * (kBlock + 44)) << "as sealed";
}

TEST_F(FoldSchedulerTest, TooManyUpdatesDelayCommits) {
  make_cloud("rs-3-2");
  const StripeId base = write(random_blocks(0, 600, kBlock));
  FoldScheduler folder(*context_, *ids_, loop_,
                       {.pause = Duration::zero(), .backlog_bytes_max = 3 * kBlock});
  on_loop([&] {
    folder.start();
    EXPECT_EQ(folder.commit_delay(), Duration::zero());
  });
  overwrite({1, 100, 200, 300, 400});
  Duration delay{};
  const auto end = monotonic_now() + seconds(20);
  while (delay == Duration::zero() && monotonic_now() < end) {
    std::this_thread::sleep_for(milliseconds(20));
    on_loop([&] { delay = folder.commit_delay(); });
  }
  EXPECT_GT(delay, Duration::zero());
  EXPECT_LT(delay, seconds(1));
  // Age does not count then: the next pass folds, and commits are as fast as before.
  while (delay > Duration::zero() && monotonic_now() < end) {
    std::this_thread::sleep_for(milliseconds(20));
    on_loop([&] { delay = folder.commit_delay(); });
  }
  EXPECT_EQ(delay, Duration::zero());
  EXPECT_EQ(all_stripes(), std::vector<StripeId>{base});
  stop_all();
}

TEST_F(FoldSchedulerTest, OnItsOwnItRestsAsLongAsItWorks) {
  make_cloud("rs-3-2");
  for (uint64_t i = 0; i < 6; ++i) {
    write(random_blocks(20 * i, 12, kBlock));
    overwrite({20 * i});
  }
  std::mutex mutex;
  std::vector<MonotonicTime> derived;
  on_operation = [&](SiteId, StoreOp op, const std::string&) {
    std::lock_guard lock(mutex);
    if (op == StoreOp::derive) derived.push_back(monotonic_now());
    return Fault{Fault::Kind::delay, {}, milliseconds(50)};
  };
  FoldScheduler folder(*context_, *ids_, loop_,
                       {.age = Duration::zero(), .pause = Duration::zero()});
  on_loop([&] { folder.start(); });
  pb::FoldReply reply;
  const auto end = monotonic_now() + seconds(30);
  while (reply.blocks_folded() < 6 && monotonic_now() < end) {
    std::this_thread::sleep_for(milliseconds(20));
    on_loop([&] { folder.describe(reply); });
  }
  EXPECT_EQ(reply.blocks_folded(), 6u);
  stop_all();
  // A fold reads, then derives: 100 ms at least, and as long is nothing done behind it.
  std::lock_guard lock(mutex);
  ASSERT_EQ(derived.size(), 18u);
  EXPECT_GE(derived.back() - derived.front(), 5 * milliseconds(200));
}

// New updates of a stripe keep coming. Its fold waits for them to end, but not while commits wait.
TEST_F(FoldSchedulerTest, AStripeThatStaysHotIsFoldedOnceCommitsAreDelayed) {
  make_cloud("rs-3-2");
  write(random_blocks(0, 600, kBlock));
  FoldScheduler folder(
      *context_, *ids_, loop_,
      {.age = seconds(600), .pause = Duration::zero(), .backlog_bytes_max = 40 * kBlock});
  on_loop([&] { folder.start(); });
  pb::FoldReply reply;
  Duration delay_max{};
  uint64_t written = 0;
  const auto end = monotonic_now() + seconds(30);
  while (reply.blocks_folded() == 0 && monotonic_now() < end) {
    overwrite({written * 7 % 600});
    ++written;
    std::this_thread::sleep_for(milliseconds(40));
    on_loop([&] {
      folder.describe(reply);
      delay_max = std::max(delay_max, folder.commit_delay());
    });
    ASSERT_TRUE(written > 40 || reply.blocks_folded() == 0) << "folded although it is hot";
  }
  EXPECT_GE(reply.blocks_folded(), 40u);
  EXPECT_GT(delay_max, Duration::zero());
  expect_readable();
  stop_all();
}

TEST_F(FoldSchedulerTest, WhatIsBlockedForLongIsMergedWithoutItsStripe) {
  constexpr size_t kLarge = 64 << 10;
  make_cloud("rs-3-2");
  const StripeId base = write(random_blocks(0, 400, kLarge));  // less than 0.3 of it will be dead
  for (uint64_t i = 0; i < 9; ++i) write(random_blocks(20 * i, 12, kLarge));
  const auto before = *record(base);
  sites_->find(5)->set_away("test");
  FoldScheduler folder(
      *context_, *ids_, loop_,
      {.age = Duration::zero(), .blocked_max = milliseconds(2500), .pause = Duration::zero()});
  const auto began = monotonic_now();
  on_loop([&] { folder.start(); });
  pb::FoldReply reply;
  while (reply.blocks_moved() == 0 && monotonic_now() < began + seconds(30)) {
    std::this_thread::sleep_for(milliseconds(20));
    on_loop([&] {
      folder.describe(reply);
      EXPECT_EQ(folder.commit_delay(), Duration::zero());  // it cannot be folded: nobody waits
    });
    if (monotonic_now() < began + milliseconds(2500)) {
      EXPECT_EQ(reply.blocks_moved(), 0u) << "too early";
    }
  }
  EXPECT_EQ(reply.blocks_moved(), 108u);
  EXPECT_EQ(reply.blocks_folded(), 0u);
  EXPECT_EQ(all_stripes().size(), 2u);
  EXPECT_EQ(record(base)->SerializeAsString(), before.SerializeAsString());
  const auto merged = *record(all_stripes().back());
  for (const auto& shard : merged.shards()) EXPECT_NE(shard.site(), 5u);
  expect_readable();
  stop_all();
}

TEST_F(FoldSchedulerTest, RepairsWhatBlocksAFoldAndGoesOn) {
  make_cloud("rs-3-2");
  const StripeId base = write(random_blocks(0, 600, kBlock));
  overwrite({5});
  const auto before = *record(base);
  Bytes column = *object(before, 0);
  column[5 * kBlock] ^= 1;
  ASSERT_TRUE(memory_[0].overwrite(object_name(before, 0), column));
  FoldScheduler folder(*context_, *ids_, loop_, {.automatic = false});
  std::thread repair([&] {
    while (records('B') == 0) std::this_thread::sleep_for(milliseconds(10));
    while (records('B') > 0) EXPECT_TRUE(StripeRepair(*context_, *ids_, base).run());
  });
  const auto reply = sweep(folder);
  repair.join();
  EXPECT_EQ(reply.blocks_folded(), 1u);
  EXPECT_EQ(reply.stripes_blocked(), 0u);
  expect_readable();
  expect_audits_clean();
  stop_all();
}

}  // namespace
}  // namespace datacloud
