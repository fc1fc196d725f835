// What the scheduler folds and merges, in which order, when it rests and what it delays.
#include "daemon/fold/fold_scheduler.h"

#include "tests/daemon/fold/parity_fold_rig.h"

namespace datacloud {
namespace {

constexpr size_t kBlock = kFoldBlock;

class FoldSchedulerTest : public ParityFoldRig {
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
