// Inline bytes and patches as records: they come and go with their runs, whatever becomes of these.
#include "daemon/records/inline_blocks.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/daemon/records/block_map_fixture.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

using inline_blocks::BlockRecords;
using inline_blocks::NewBytes;

constexpr uint32_t kBlock = 4096;

std::string sealed(const std::string& text) { return text + std::string(60, '.'); }

class InlineBlocksTest : public BlockMapFixture {
 protected:
  void SetUp() override {
    BlockMapFixture::SetUp();
    file_ = make_file("f");
    write(file_, 0, 5, 4);
  }
  void TearDown() override {
    expect_clean();
    BlockMapFixture::TearDown();
  }

  void write(InodeId ino, uint64_t first, StripeId stripe, uint32_t count) {
    const auto done = apply([&](Transaction& txn) -> result<void> {
      TRY(add_stripe(txn, make_stripe(stripe, std::vector<uint32_t>(count, 100))));
      pb::InodeUpdate update;
      update.set_ino(ino);
      *update.add_runs() = make_run(first, count, stripe, 0, stripe * 1000);
      update.set_grow_to((first + count) * kBlock);
      TRY(update_inode(txn, update));
      return success();
    });
    ASSERT_TRUE(done) << done.error().message();
  }
  result<pb::Inode> put_block(uint64_t block, ContentVersion version, const std::string& text) {
    return apply([&](Transaction& txn) {
      return inline_blocks::put_block(
          txn, {file_, block, version, sealed(text), version, (block + 1) * kBlock});
    });
  }
  result<pb::Inode> put_patch(uint64_t block, ContentVersion version, const std::string& text) {
    return apply([&](Transaction& txn) {
      return inline_blocks::put_patch(txn, {file_, block, version, sealed(text), version, 0},
                                      patches_max_);
    });
  }
  void cut(uint64_t size) {
    ASSERT_TRUE(apply([&](Transaction& txn) {
      pb::InodeUpdate update;
      update.set_ino(file_);
      update.set_truncate_to(size);
      return update_inode(txn, update);
    }));
  }
  pb::Run run_of(uint64_t block) {
    const auto runs = runs_of(store_->begin(), file_, block, 1);
    EXPECT_TRUE(runs && runs.value().size() == 1) << "block " << block;
    return runs.value().at(0);
  }
  BlockRecords records_of(uint64_t block) {
    auto records = inline_blocks::read_records(store_->begin(), file_, run_of(block));
    EXPECT_TRUE(records) << records.error().message();
    return records ? records.value() : BlockRecords();
  }
  // All `V` and `W` records there are.
  size_t stored() {
    size_t count = 0;
    for (const std::string kind : {"V", "W"}) {
      EXPECT_TRUE(store_->begin().scan(kind, key::after_prefix(kind),
                                       [&](auto, auto) { return ++count > 0; }));
    }
    return count;
  }

  InodeId file_ = 0;

  uint32_t patches_max_ = kBlockPatchesDefault;
};

TEST_F(InlineBlocksTest, AnInlineBlockTakesThePlaceOfASlot) {
  const auto changed = put_block(2, 7000, "inline");
  ASSERT_TRUE(changed) << changed.error().message();
  EXPECT_EQ(changed.value().blocks_mapped(), 4u);
  EXPECT_EQ(changed.value().change_id(), 7000u);
  EXPECT_TRUE(run_of(2).inline_());
  EXPECT_FALSE(is_lost(run_of(2))) << "it has data";
  EXPECT_EQ(records_of(2).block, sealed("inline"));
  pb::StripeLive live;
  ASSERT_TRUE(store_->begin().get(key::live(5), live).value());
  EXPECT_EQ(live.slots(), 3u);
  expect_clean();
  ASSERT_TRUE(put_block(2, 7001, "newer"));
  EXPECT_EQ(records_of(2).block, sealed("newer"));
  EXPECT_EQ(stored(), 1u);
  write(file_, 2, 6, 1);  // and a slot takes its place
  EXPECT_EQ(stored(), 0u);
  EXPECT_EQ(run_of(2).stripe(), 6u);
}

TEST_F(InlineBlocksTest, PatchesComeInOrderAndEndWithTheNextWholeBlock) {
  ASSERT_TRUE(put_patch(1, 7000, "a"));
  EXPECT_EQ(run_of(1).count(), 1u) << "cut out of its run";
  EXPECT_EQ(run_of(1).stripe(), 5u) << "where it was";
  EXPECT_EQ(run_of(0).patches() + run_of(2).patches(), 0u);
  expect_clean();
  const auto changed = put_patch(1, 7002, "b");
  ASSERT_TRUE(changed);
  EXPECT_EQ(changed.value().change_id(), 7002u);
  const auto records = records_of(1);
  ASSERT_EQ(records.patches.size(), 2u);
  EXPECT_EQ(records.patches[0].version, 7000u);
  EXPECT_EQ(records.patches[1].sealed, sealed("b"));
  EXPECT_FALSE(put_patch(1, 7002, "again"));
  EXPECT_FALSE(put_patch(1, 7001, "an older version"));
  EXPECT_FALSE(put_patch(3, 5000, "older than its block"));
  EXPECT_FALSE(put_patch(4, 7000, "of a hole"));
  EXPECT_EQ(stored(), 2u);
  write(file_, 1, 6, 1);
  EXPECT_EQ(stored(), 0u);
  EXPECT_EQ(run_of(1).patches(), 0u);
}

TEST_F(InlineBlocksTest, AnInlineBlockHasPatchesToo) {
  ASSERT_TRUE(put_block(2, 7000, "inline"));
  ASSERT_TRUE(put_patch(2, 7001, "patch"));
  EXPECT_EQ(records_of(2).block, sealed("inline"));
  EXPECT_EQ(records_of(2).patches.size(), 1u);
  ASSERT_TRUE(put_block(2, 7002, "whole"));
  EXPECT_EQ(records_of(2).patches.size(), 0u);
  EXPECT_EQ(stored(), 1u);
}

TEST_F(InlineBlocksTest, ABlockHasAsManyPatchesAsTheConfigurationSays) {
  const auto refused = [&](ContentVersion version) {
    const auto more = put_patch(1, version, "p");
    return !more && more.error().message().find("seal the whole block") != std::string::npos;
  };
  for (ContentVersion v = 7000; v < 7008; ++v) ASSERT_TRUE(put_patch(1, v, "p"));
  EXPECT_TRUE(refused(7008)) << "8 unless set";
  patches_max_ = 9;
  ASSERT_TRUE(put_patch(1, 7008, "p"));
  EXPECT_TRUE(refused(7009));
  patches_max_ = 2;
  EXPECT_TRUE(refused(7009)) << "what is there stays";
  EXPECT_EQ(records_of(1).patches.size(), 9u);
  patches_max_ = 1000;
  for (ContentVersion v = 7009; v < 7064; ++v) ASSERT_TRUE(put_patch(1, v, "p"));
  EXPECT_TRUE(refused(7064)) << "no more than readers take";
  EXPECT_EQ(records_of(1).patches.size(), kBlockPatchesMax);
}

TEST_F(InlineBlocksTest, WhatIsNoSealedBlockIsRefused) {
  ContentVersion version = 7000;
  const auto put = [&](size_t bytes, bool patch) {
    return apply([&](Transaction& txn) {
      NewBytes bad{file_, 1, ++version, std::string(bytes, 'x'), 1, 0};
      return patch ? inline_blocks::put_patch(txn, bad) : inline_blocks::put_block(txn, bad);
    });
  };
  EXPECT_FALSE(put(kSealedOverheadBytes, false));
  EXPECT_FALSE(put(kBlock + kSealedOverheadBytes + 1, false));
  EXPECT_FALSE(put(kSealedPatchOverheadBytes, true));
  EXPECT_FALSE(put(kBlock + kSealedPatchOverheadBytes + 1, true));
  EXPECT_EQ(stored(), 0u);
  EXPECT_TRUE(put(kBlock + kSealedOverheadBytes, false));
  EXPECT_TRUE(put(kSealedPatchOverheadBytes + 1, true));
  EXPECT_TRUE(put(kBlock + kSealedPatchOverheadBytes, true));
}

TEST_F(InlineBlocksTest, TruncatingAndReclaimingTakeThemAlong) {
  ASSERT_TRUE(put_block(3, 7000, "inline"));
  ASSERT_TRUE(put_patch(2, 7001, "p"));
  ASSERT_TRUE(put_patch(0, 7002, "p"));
  cut(2 * kBlock);
  EXPECT_EQ(stored(), 1u);
  EXPECT_EQ(records_of(0).patches.size(), 1u);
  pb::UnlinkRequest request;
  request.set_parent(kRootInode);
  request.set_name("f");
  ASSERT_TRUE(apply([&](Transaction& txn) { return unlink(txn, request); }));
  ASSERT_TRUE(apply([&](Transaction& txn) { return reclaim_inode(txn, file_, 100); }));
  EXPECT_EQ(stored(), 0u);
}

TEST_F(InlineBlocksTest, ClonesCopyWhatIsSealedForItsPlaceAlone) {
  const InodeId clone = make_file("clone");
  const auto cloned = [&](uint64_t first, uint64_t count) {
    return apply([&](Transaction& txn) {
      return clone_range(txn, {file_, clone, first, first, count, 4 * kBlock, 1});
    });
  };
  ASSERT_TRUE(put_patch(1, 7000, "p"));
  ASSERT_TRUE(put_block(3, 7001, "inline"));
  for (const uint64_t block : {1, 3}) {
    const auto refused = cloned(block, 1);
    ASSERT_FALSE(refused);
    EXPECT_TRUE(refused.error().is(Errc::no_space)) << "as where too many share a slot";
    EXPECT_NE(refused.error().message().find("copy the data"), std::string::npos);
  }
  EXPECT_FALSE(cloned(0, 4)) << "in a range as well";
  EXPECT_TRUE(runs_of(store_->begin(), clone, 0, 10).value().empty()) << "nothing was done";
  EXPECT_TRUE(cloned(0, 1));
  EXPECT_TRUE(cloned(2, 1));
}

// A clone is overwritten by a patch: its slot stays the original's as well.
TEST_F(InlineBlocksTest, APatchedCloneSharesItsSlotStill) {
  const InodeId original = file_;
  const InodeId clone = make_file("clone");
  ASSERT_TRUE(apply([&](Transaction& txn) {
    return clone_range(txn, {original, clone, 0, 8, 4, 12 * kBlock, 1});
  }));
  file_ = clone;
  ASSERT_TRUE(put_patch(10, 7000, "p"));
  EXPECT_EQ(run_of(10).sealed_for().ino(), original);
  EXPECT_EQ(run_of(10).sealed_for().first_block(), 2u);
  expect_clean();
  file_ = original;
  EXPECT_EQ(run_of(2).patches(), 0u);
  ASSERT_TRUE(put_patch(2, 7001, "q"));
  expect_clean();
}

TEST_F(InlineBlocksTest, WhatMovesSlotsCannotTakeThemAlong) {
  ASSERT_TRUE(put_patch(1, 7000, "p"));
  ASSERT_TRUE(put_block(2, 7001, "inline"));
  for (const uint64_t block : {1, 2}) {
    const auto moved = apply([&](Transaction& txn) -> result<void> {
      TRY(add_stripe(txn, make_stripe(6, {100})));
      pb::InodeUpdate update;
      update.set_ino(file_);
      *update.add_runs() = make_run(block, 1, 6, 0, 5001);
      TRY(update_inode(txn, update, Displaced::moved));
      return success();
    });
    ASSERT_FALSE(moved) << "block " << block;
    EXPECT_TRUE(moved.error().is(Errc::corrupt));
  }
  EXPECT_EQ(stored(), 2u);
}

TEST_F(InlineBlocksTest, TheMapBringsThem) {
  pb::MapRequest request;
  request.set_ino(file_);
  request.set_blocks(4);
  EXPECT_EQ(read_map(store_->begin(), request).value().pieces_size(), 0);
  ASSERT_TRUE(put_patch(1, 7000, "p"));
  ASSERT_TRUE(put_block(3, 7001, "inline"));
  const auto map = read_map(store_->begin(), request);
  ASSERT_TRUE(map) << map.error().message();
  ASSERT_EQ(map.value().pieces_size(), 2);
  EXPECT_EQ(map.value().pieces(0).block(), 1u);
  EXPECT_TRUE(map.value().pieces(0).patch());
  EXPECT_EQ(map.value().pieces(0).sealed(), sealed("p"));
  EXPECT_EQ(map.value().pieces(1).version(), 7001u);
  EXPECT_FALSE(map.value().pieces(1).patch());
  EXPECT_EQ(map.value().stripes_size(), 1);
  const auto found = stripes_of_inode(store_->begin(), file_, 10).value();
  EXPECT_EQ(found.blocks_inline, 1u);
  EXPECT_EQ(found.blocks_patched, 1u);
}

TEST_F(InlineBlocksTest, UpdatesBringNoneByThemselves) {
  const auto update = [&](const std::function<void(pb::Run&)>& change) {
    return apply([&](Transaction& txn) -> result<void> {
      TRY(add_stripe(txn, make_stripe(6, {100, 100})));
      pb::InodeUpdate sent;
      sent.set_ino(file_);
      *sent.add_runs() = make_run(0, 1, 6, 0, 7000);
      change(*sent.mutable_runs(0));
      TRY(update_inode(txn, sent));
      return success();
    });
  };
  EXPECT_FALSE(update([](pb::Run& run) { run.set_patches(1); }));
  EXPECT_FALSE(update([](pb::Run& run) { run.set_inline_(true); }));
  EXPECT_FALSE(update([](pb::Run& run) {
    run.set_inline_(true);
    run.clear_stripe();
    run.set_count(2);
  }));
  EXPECT_TRUE(update([](pb::Run&) {}));
}

// Against a model: blocks of one file are written, patched, made inline, cut and cloned over.
TEST_F(InlineBlocksTest, RandomChangesKeepRunsAndRecordsTogether) {
  struct Block {
    bool is_inline = false;
    ContentVersion version = 0;
    std::vector<ContentVersion> patches;
  };
  constexpr uint64_t kBlocks = 12;
  std::map<uint64_t, Block> model;
  for (uint64_t b = 0; b < 4; ++b) model[b].version = 5000 + b;
  Seeded random;
  StripeId stripe = 0;
  ContentVersion version = 100'000;
  for (int step = 0; step < 400; ++step) {
    const uint64_t block = random.number(0, kBlocks - 1);
    switch (random.number(0, 5)) {
      case 0: {
        const auto count = static_cast<uint32_t>(random.number(1, kBlocks - block));
        stripe = version / 1000 + 1;
        version = stripe * 1000 + count;
        write(file_, block, stripe, count);
        for (uint32_t i = 0; i < count; ++i) model[block + i] = {false, stripe * 1000 + i, {}};
        break;
      }
      case 1:
        ++version;
        ASSERT_TRUE(put_block(block, version, "v" + std::to_string(version)));
        model[block] = {true, version, {}};
        break;
      case 2: {
        const uint64_t kept = random.number(block, kBlocks);
        cut(kept * kBlock);
        model.erase(model.lower_bound(kept), model.end());
        break;
      }
      default: {
        const auto it = model.find(block);
        const bool fits = it != model.end() && it->second.patches.size() < kBlockPatchesDefault;
        ++version;
        ASSERT_EQ(put_patch(block, version, "v" + std::to_string(version)).has_value(), fits);
        if (fits) it->second.patches.push_back(version);
      }
    }
    size_t expected = 0;
    for (const auto& [at, known] : model) {
      const auto run = run_of(at);
      ASSERT_EQ(run.version(), known.version) << "block " << at;
      ASSERT_EQ(run.inline_(), known.is_inline);
      const auto records = records_of(at);
      ASSERT_EQ(records.patches.size(), known.patches.size());
      for (size_t i = 0; i < known.patches.size(); ++i) {
        ASSERT_EQ(records.patches[i].version, known.patches[i]);
        ASSERT_EQ(records.patches[i].sealed, sealed("v" + std::to_string(known.patches[i])));
      }
      if (known.is_inline) {
        ASSERT_EQ(records.block, sealed("v" + std::to_string(known.version)));
      }
      expected += known.patches.size() + (known.is_inline ? 1 : 0);
    }
    ASSERT_EQ(stored(), expected);
    if (step % 20 == 0) expect_clean();
  }
}

}  // namespace
}  // namespace datacloud
