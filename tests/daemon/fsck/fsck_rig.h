// A small cloud whose records tests damage, check and mend.
#pragma once

#include <gmock/gmock.h>

#include "daemon/fsck/fsck.h"
#include "daemon/metadata/counters.h"
#include "tests/daemon/records/block_map_fixture.h"

namespace datacloud {

class FsckTest : public BlockMapFixture {
 protected:
  void SetUp() override {
    BlockMapFixture::SetUp();
    directory_ = make(kRootInode, "dir", S_IFDIR | 0755);
    below_ = make(directory_, "below", S_IFDIR | 0755);
    file_ = make(below_, "file", S_IFREG | 0644);
    other_ = make(kRootInode, "other", S_IFREG | 0644);
    map(file_, 5);
    map(other_, 6);
    damage(put_ids);
    const auto clean = run(false);
    EXPECT_EQ(clean.findings_total(), 0u) << clean.ShortDebugString();
  }
  void map(InodeId ino, StripeId stripe) { map_three(ino, stripe); }
  // A third file in stripe 7, whose second block is in the last of stripe 8's three slots by now.
  InodeId make_overwritten() {
    const InodeId third = make(kRootInode, "third", S_IFREG | 0644);
    map(third, 7);
    const auto done = apply([&](Transaction& txn) -> result<void> {
      pb::InodeUpdate update;
      update.set_ino(third);
      TRY(add_stripe(txn, make_stripe(8, {100, 200, 300})));
      *update.add_runs() = make_run(1, 1, 8, 2, 950);
      TRY(update_inode(txn, update));
      return success();
    });
    EXPECT_TRUE(done) << done.error().message();
    EXPECT_EQ(run(false).findings_total(), 0u);
    return third;
  }
  static constexpr int kRoundsMax = 9;

  // One check; with `mend` as many as mend something, told together.
  pb::FsckReply run(bool mend) {
    pb::FsckReply all;
    for (int round = 0;; ++round) {
      const Sequence before = store_->sequence();
      LocalFsck fsck(*store_, limits_);
      RecordCheckProgress progress;
      auto reply = fsck.check(progress);
      EXPECT_TRUE(reply) << reply.error().message();
      EXPECT_EQ(store_->sequence(), before) << "a look changed something";
      if (!mend) return reply.value();
      std::vector<uint64_t> numbers;
      for (const auto& finding : reply.value().findings()) numbers.push_back(finding.number());
      EXPECT_TRUE(fsck.mend(numbers, reply.value()));
      for (const auto& finding : reply.value().findings()) {
        if (finding.mended() || reply.value().mended_total() == 0) *all.add_findings() = finding;
      }
      all.set_mended_total(all.mended_total() + reply.value().mended_total());
      if (reply.value().mended_total() == 0) break;
      if (round == kRoundsMax) {
        ADD_FAILURE() << "mending does not end: " << reply.value().ShortDebugString();
        break;
      }
    }
    all.set_findings_total(static_cast<uint64_t>(all.findings_size()));
    return all;
  }
  void damage(const std::function<void(Transaction&)>& change) {
    Transaction txn = store_->begin();
    change(txn);
    ASSERT_TRUE(store_->commit(std::move(txn)));
  }
  template <class Message>
  Message get(const std::string& k) {
    Message message;
    EXPECT_TRUE(store_->begin().get(k, message).value()) << "no record";
    return message;
  }
  // Mended altogether: no finding is left, and the block map keeps its invariants.
  void expect_sound() {
    const auto left = run(false);
    EXPECT_EQ(left.findings_total(), 0u) << left.DebugString();
    expect_clean();
  }
  // Found, told by looking without changing anything, mended, and clean afterwards.
  void expect_mended(const std::string& text) {
    const auto seen = run(false);
    ASSERT_GT(seen.findings_total(), 0u) << "nothing was found";
    EXPECT_EQ(seen.mended_total(), 0u);
    EXPECT_THAT(seen.ShortDebugString(), testing::HasSubstr(text));
    EXPECT_EQ(run(false).findings_total(), seen.findings_total()) << "looking changed something";
    const auto mended = run(true);
    EXPECT_EQ(mended.mended_total(), mended.findings_total()) << mended.DebugString();
    const auto after = run(false);
    EXPECT_EQ(after.findings_total(), 0u) << after.DebugString();
    // Both files still have all they had.
    for (const InodeId ino : {file_, other_}) {
      EXPECT_EQ(get<pb::Inode>(key::inode(ino)).blocks_mapped(), 3u);
      EXPECT_EQ(runs_of(store_->begin(), ino, 0, 10).value().size(), 1u);
    }
  }

  InodeId directory_ = 0, below_ = 0, file_ = 0, other_ = 0;
  RecordCheckLimits limits_{.table_inodes = 3, .buckets = 4};  // many ranges, shared buckets
};

}  // namespace datacloud
