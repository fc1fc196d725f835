// Inline blocks that nobody moves any more go into stripes as they are: whatever changes meanwhile
// and wherever the daemon dies, each block has what was written to it last, and its patches.
#include "daemon/fold/inline_move.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "daemon/fold/fold_scheduler.h"
#include "daemon/fold/stripe_merge.h"
#include "daemon/records/inline_blocks.h"
#include "tests/daemon/fold/fold_rig.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

constexpr size_t kInlineBlockBytes = 4096;
constexpr size_t kSealedMin = 60, kSealedMax = 2000;

bool always(InodeId) { return true; }

class InlineMoveTest : public FoldRig {
 protected:
  void TearDown() override { remove_cloud(); }

  // What a mount would commit: a sealed block, in the records.
  void put(uint64_t block, size_t bytes = 300) {
    const Bytes contents = random_bytes(bytes);
    const ContentVersion version = take(IdKind::version, 1);
    commit([&](Transaction& txn) {
      return inline_blocks::put_block(txn, {.ino = kFile,
                                            .block = block,
                                            .version = version,
                                            .sealed = std::string(as_text(contents)),
                                            .change_id = version,
                                            .grow_to = (block + 1) * kInlineBlockBytes});
    });
    expected_[block] = contents;
    patches_.erase(block);
  }
  // False: the block takes none any more.
  bool patch(uint64_t block) {
    const std::string text(as_text(random_bytes(100)));
    const ContentVersion version = take(IdKind::version, 1);
    bool done = false;
    on_loop([&] {
      auto txn = store_->begin();
      done = inline_blocks::put_patch(txn, {.ino = kFile,
                                            .block = block,
                                            .version = version,
                                            .sealed = text,
                                            .change_id = version})
                 .has_value();
      if (done) {
        EXPECT_TRUE(store_->commit(std::move(txn)));
      }
    });
    if (done) patches_[block].push_back(text);
    return done;
  }
  void cut(uint64_t blocks) {
    commit([&](Transaction& txn) {
      pb::InodeUpdate update;
      update.set_ino(kFile);
      update.set_truncate_to(blocks * kInlineBlockBytes);
      return update_inode(txn, update);
    });
    expected_.erase(expected_.lower_bound(blocks), expected_.end());
    patches_.erase(patches_.lower_bound(blocks), patches_.end());
  }
  // A whole block in a stripe.
  void put_in_stripe(uint64_t block) {
    write({{block, random_bytes(300)}});
    patches_.erase(block);
  }

  InlineMoveOutcome move(const std::function<bool(InodeId)>& may_move = always,
                         InlinePlace from = {0, 0}) {
    const auto outcome = move_inline_blocks(*context_, *ids_, from, may_move);
    EXPECT_TRUE(outcome) << outcome.error().message();
    return outcome ? outcome.value() : InlineMoveOutcome();
  }
  size_t records(const std::string& kind) {
    size_t count = 0;
    on_loop([&] {
      EXPECT_TRUE(store_->begin().scan(kind, key::after_prefix(kind),
                                       [&](auto, auto) { return ++count > 0; }));
    });
    return count;
  }
  std::vector<uint64_t> inline_blocks_now() {
    std::vector<uint64_t> blocks;
    on_loop([&] {
      const auto runs = runs_of(store_->begin(), kFile, 0, 1u << 20).value();
      for (const auto& run : runs) {
        if (run.inline_()) blocks.push_back(run.first_block());
      }
    });
    return blocks;
  }
  // Every block has its bytes, inline or in a slot, and its patches in their order.
  void expect_contents() {
    std::map<StripeId, pb::Stripe> stripes;
    std::map<uint64_t, pb::Run> runs;
    on_loop([&] {
      const auto txn = store_->begin();
      const auto findings = check_block_map(txn);
      ASSERT_TRUE(findings);
      for (const auto& finding : findings.value()) ADD_FAILURE() << finding;
      size_t mapped = 0;
      const auto all = runs_of(txn, kFile, 0, 1u << 20).value();
      for (const auto& run : all) mapped += run.count();
      EXPECT_EQ(mapped, expected_.size());
      for (const auto& [block, contents] : expected_) {
        const auto found = runs_of(txn, kFile, block, 1).value();
        ASSERT_EQ(found.size(), 1u) << "block " << block;
        const auto of_block = inline_blocks::read_records(txn, kFile, found[0]);
        ASSERT_TRUE(of_block) << of_block.error().message();
        std::vector<std::string> texts;
        for (const auto& patch : of_block.value().patches) texts.push_back(patch.sealed);
        EXPECT_EQ(texts, patches_[block]) << "patches of block " << block;
        if (found[0].inline_()) {
          EXPECT_EQ(of_block.value().block, as_text(contents)) << "block " << block;
          continue;
        }
        runs[block] = found[0];
        const StripeId id = found[0].stripe();
        if (!stripes.contains(id)) stripes[id] = get_stripe(txn, id).value().value();
      }
    });
    for (const auto& [block, run] : runs) {
      const auto& stripe = stripes.at(run.stripe());
      const int slot = static_cast<int>(run.first_slot());
      const auto column = object(stripe, static_cast<int>(stripe.slot_column(slot)));
      ASSERT_TRUE(column) << "block " << block;
      const auto begin = column->begin() + stripe.slot_offset(slot);
      EXPECT_EQ(Bytes(begin, begin + stripe.slot_length(slot)), expected_.at(block))
          << "block " << block;
    }
  }
  pb::FoldReply sweep(FoldScheduler& folder) {
    on_loop([&] { folder.sweep_now(); });
    pb::FoldReply reply;
    const auto end = monotonic_now() + seconds(60);
    do {
      std::this_thread::sleep_for(milliseconds(2));
      on_loop([&] { folder.describe(reply); });
    } while (!reply.idle() && monotonic_now() < end);
    EXPECT_TRUE(reply.idle());
    return reply;
  }

  std::map<uint64_t, std::vector<std::string>> patches_;  // of the file, by block
};

TEST_F(InlineMoveTest, AllBlocksGoIntoOneStripeAsTheyAre) {
  make_cloud("rs-3-2");
  for (uint64_t block = 0; block < 40; ++block) put(2 * block, 60 + 40 * block);
  const auto outcome = move();
  EXPECT_EQ(outcome.blocks_moved, 40u);
  EXPECT_EQ(outcome.stripes_made, 1u);
  EXPECT_FALSE(outcome.next);
  EXPECT_EQ(outcome.obstacle, "");
  EXPECT_EQ(records("V"), 0u);
  expect_readable();
  expect_contents();
  expect_audits_clean();
  expect_no_orphans();
  EXPECT_EQ(move().blocks_moved, 0u);
}

// Also in the middle of blocks that become one run.
TEST_F(InlineMoveTest, PatchesStayBesideTheSlot) {
  make_cloud("rs-3-2");
  for (uint64_t block = 0; block < 5; ++block) put(block);
  EXPECT_TRUE(patch(2) && patch(2) && patch(4));
  EXPECT_EQ(move().blocks_moved, 5u);
  EXPECT_EQ(records("V"), 0u);
  EXPECT_EQ(records("W"), 3u);
  expect_contents();
  EXPECT_TRUE(patch(2)) << "further ones follow";
  expect_contents();
  put_in_stripe(2);  // the whole block, as the next mount writes it
  EXPECT_EQ(records("W"), 1u);
  cut(3);
  EXPECT_EQ(records("W"), 0u);
  expect_contents();
  expect_no_orphans();
}

TEST_F(InlineMoveTest, WhatChangesMeanwhileStays) {
  make_cloud("rs-3-2");
  for (uint64_t block = 0; block < 6; ++block) put(block);
  std::atomic<bool> once{true};
  on_operation = [&](SiteId, StoreOp op, const std::string&) {
    if (op != StoreOp::put || !once.exchange(false)) return Fault();
    put(1);
    put_in_stripe(2);
    patch(3);
    cut(5);
    return Fault();
  };
  const auto outcome = move();
  on_operation = nullptr;
  EXPECT_EQ(outcome.blocks_moved, 3u) << "0, 3 and 4";
  EXPECT_EQ(outcome.blocks_changed, 3u);
  EXPECT_EQ(inline_blocks_now(), std::vector<uint64_t>{1});
  expect_contents();
  expect_no_orphans();
}

TEST_F(InlineMoveTest, FilesOfOthersAreLeftAlone) {
  make_cloud("rs-3-2");
  for (uint64_t block = 0; block < 1000; ++block) put(block, 61);
  size_t asked = 0;
  const auto outcome = move([&](InodeId) { return ++asked == 0; });
  EXPECT_EQ(outcome.blocks_moved, 0u);
  EXPECT_LE(asked, 2u) << "once for a file";
  EXPECT_EQ(records("V"), 1000u);
}

TEST_F(InlineMoveTest, ASliceIsBounded) {
  make_cloud("rs-2-1");
  const uint64_t count = kInlineSliceBytes / kInlineBlockBytes + 700;
  for (uint64_t block = 0; block < count; ++block) put(block, kInlineBlockBytes);
  const auto first = move();
  ASSERT_TRUE(first.next);
  EXPECT_GE(first.blocks_moved * kInlineBlockBytes, kInlineSliceBytes);
  EXPECT_LT(first.blocks_moved, count);
  const auto second = move(always, *first.next);
  EXPECT_FALSE(second.next);
  EXPECT_EQ(first.blocks_moved + second.blocks_moved, count);
  expect_contents();
}

TEST_F(InlineMoveTest, WithTooFewSitesEverythingStays) {
  make_cloud("rs-3-2");
  for (uint64_t block = 0; block < 3; ++block) put(block);
  on_operation = [](SiteId, StoreOp op, const std::string&) {
    if (op == StoreOp::put) return Fault{Fault::Kind::fail_before, Error(Errc::io, "full"), {}};
    return Fault();
  };
  const auto outcome = move();
  EXPECT_EQ(outcome.blocks_moved, 0u);
  EXPECT_NE(outcome.obstacle, "");
  on_operation = nullptr;
  EXPECT_EQ(records("V"), 3u);
  expect_contents();
  EXPECT_EQ(move().blocks_moved, 3u);
  expect_no_orphans();
}

// One run that dies before operation `last` + 1; a restart, and the move is made again.
TEST_F(InlineMoveTest, TheDaemonDiesAfterEveryOperation) {
  uint64_t last = 0;
  for (bool died = true; died; ++last) {
    make_cloud("rs-3-2");
    for (uint64_t block = 0; block < 9; ++block) put(block, 400);
    EXPECT_TRUE(patch(4));
    operations_ = 0;
    operations_max_ = last;
    (void)move_inline_blocks(*context_, *ids_, {0, 0}, always);  // fails when it dies
    if (!crashed_) collect_garbage();
    died = crashed_;
    expect_contents();
    restart();
    expect_contents();
    move();
    EXPECT_EQ(records("V"), 0u);
    EXPECT_EQ(records("W"), 1u);
    expect_contents();
    expect_audits_clean();
    expect_no_orphans();
    remove_cloud();
    ASSERT_FALSE(HasFailure()) << "dies after " << last << " operations";
    ASSERT_LT(last, 300u);
  }
  EXPECT_GT(last, 4u);
}

TEST_F(InlineMoveTest, TheSchedulerLeavesOwnedFilesAndMovesTheOthers) {
  make_cloud("rs-3-2");
  for (uint64_t block = 0; block < 20; ++block) put(block);
  std::atomic<bool> owned{true};
  FoldScheduler folder(*context_, *ids_, loop_,
                       {.automatic = false, .is_owned = [&](InodeId) { return owned.load(); }});
  EXPECT_EQ(sweep(folder).blocks_moved(), 0u);
  EXPECT_EQ(records("V"), 20u);
  owned = false;
  const auto reply = sweep(folder);
  EXPECT_EQ(reply.failures(), 0u) << reply.last_failure();
  EXPECT_EQ(records("V"), 0u);
  expect_contents();
  expect_no_orphans();
  stop_all();
}

// Left to itself: not before they have been left for a while, and then unasked.
TEST_F(InlineMoveTest, TheSchedulerMovesUnasked) {
  make_cloud("rs-3-2");
  for (uint64_t block = 0; block < 5; ++block) put(block);
  FoldScheduler folder(*context_, *ids_, loop_,
                       {.age = milliseconds(50), .pause = Duration::zero()});
  on_loop([&] { folder.start(); });
  const auto end = monotonic_now() + seconds(60);
  while (records("V") > 0 && monotonic_now() < end) std::this_thread::sleep_for(milliseconds(10));
  EXPECT_EQ(records("V"), 0u);
  stop_all();
}

// Commits of whole blocks and patches, inline and in stripes, and cuts, while inline blocks are
// moved, and stripes folded and merged; the daemon dies now and then.
TEST_F(InlineMoveTest, RandomCommitsAgainstMovesFoldsAndMerges) {
  Seeded seeded;
  for (int round = 0; round < 6; ++round) {
    make_cloud("rs-3-2");
    patches_.clear();
    const auto change = [&] {
      const uint64_t block = seeded.number(0, 30);
      const uint64_t kind = seeded.number(0, 19);
      if (kind < 8) return put(block, seeded.number(kSealedMin, kSealedMax));
      if (kind < 14 && expected_.contains(block)) return void(patch(block));
      if (kind < 18) return put_in_stripe(block);
      if (kind == 19) cut(seeded.number(1, 30));
    };
    for (int i = 0; i < 30; ++i) change();
    operations_ = 0;
    operations_max_ = seeded.number(0, 3) == 0 ? seeded.number(1, 60) : UINT64_MAX;
    std::atomic<bool> inside{false};
    on_operation = [&](SiteId, StoreOp, const std::string&) {
      if (!inside.exchange(true)) {
        if (seeded.number(0, 3) == 0) change();
        inside = false;
      }
      return Fault();
    };
    for (int pass = 0; pass < 3 && !crashed_; ++pass) {
      (void)move_inline_blocks(*context_, *ids_, {0, 0}, always);
      std::vector<MergeCandidate> candidates;
      for (const StripeId id : all_stripes()) {
        (void)fold_stripe(*context_, *ids_, id, {});
        const auto now = record(id);
        if (now) candidates.push_back({id, kind_of(*now), 0, 0});
      }
      (void)merge_stripes(*context_, *ids_, candidates);
    }
    on_operation = nullptr;
    expect_contents();
    restart();
    expect_contents();
    EXPECT_TRUE(move_inline_blocks(*context_, *ids_, {0, 0}, always));
    EXPECT_EQ(records("V"), 0u);
    expect_contents();
    expect_audits_clean();
    expect_no_orphans();
    remove_cloud();
    ASSERT_FALSE(HasFailure()) << "round " << round;
  }
}

}  // namespace
}  // namespace datacloud
