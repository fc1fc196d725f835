// Every kind of damage to the records, made by hand, is found, told and mended; nothing that was
// sound is lost. Random damage never crashes it and never takes a file away that was not touched.
#include "daemon/fsck.h"

#include <gmock/gmock.h>

#include "block_map_fixture.h"
#include "daemon/totals.h"

namespace datacloud {
namespace {

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
    const auto clean = run(false);
    EXPECT_EQ(clean.findings_total(), 0u) << clean.ShortDebugString();
  }
  InodeId make(InodeId parent, const std::string& name, uint32_t mode) {
    pb::CreateRequest request;
    request.set_parent(parent);
    request.set_name(name);
    request.set_mode(mode);
    request.set_exclusive(true);
    const auto made = apply([&](Transaction& txn) { return create(txn, request, next_ino_++); });
    EXPECT_TRUE(made) << made.error().message();
    return made.value().inode.ino();
  }
  void map(InodeId ino, StripeId stripe) {
    const auto done = apply([&](Transaction& txn) -> result<void> {
      pb::InodeUpdate update;
      update.set_ino(ino);
      TRY(add_stripe(txn, make_stripe(stripe, {100, 200, 300})));
      *update.add_runs() = make_run(0, 3, stripe, 0, 900);
      update.set_grow_to(3 * 4096);
      TRY(update_inode(txn, update));
      return success();
    });
    ASSERT_TRUE(done) << done.error().message();
  }
  pb::FsckReply run(bool mend) {
    pb::FsckReply reply;
    Transaction txn = store_->begin();
    const auto done = fsck_metadata(txn, mend, reply, [&] { return next_ino_++; });
    EXPECT_TRUE(done) << done.error().message();
    if (!txn.empty()) {
      EXPECT_TRUE(mend) << "a look changed something";
      EXPECT_TRUE(store_->commit(std::move(txn)));
    }
    return reply;
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
};

TEST_F(FsckTest, AFileWithoutANameIsLinkedIntoLostAndFound) {
  const auto entry = get<pb::Entry>(key::entry(below_, "file"));
  damage([&](Transaction& txn) {
    txn.erase(key::entry(below_, "file"));
    txn.erase(key::cookie(below_, entry.cookie()));
  });
  expect_mended("has no name");
  const auto found = resolve_path(store_->begin(), "/lost+found/" + std::to_string(file_));
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_EQ(found.value().size(), 3u * 4096);
}

TEST_F(FsckTest, ADirectoryWithoutANameKeepsWhatIsInIt) {
  const auto entry = get<pb::Entry>(key::entry(directory_, "below"));
  damage([&](Transaction& txn) {
    txn.erase(key::entry(directory_, "below"));
    txn.erase(key::cookie(directory_, entry.cookie()));
  });
  expect_mended("has no name");
  EXPECT_TRUE(resolve_path(store_->begin(), "/lost+found/" + std::to_string(below_) + "/file"));
}

TEST_F(FsckTest, AnEntryOfNothingGoes) {
  damage([&](Transaction& txn) {
    pb::Entry entry;
    entry.set_ino(4711);
    entry.set_type(S_IFREG);
    entry.set_cookie(77);
    txn.put(key::entry(directory_, "ghost"), entry);
    txn.put(key::cookie(directory_, 77), std::string("ghost"));
  });
  expect_mended("does not exist");
}

TEST_F(FsckTest, AnEntryOfTheWrongTypeGetsTheInodes) {
  auto entry = get<pb::Entry>(key::entry(below_, "file"));
  entry.set_type(S_IFLNK);
  damage([&](Transaction& txn) { txn.put(key::entry(below_, "file"), entry); });
  expect_mended("wrong type");
}

TEST_F(FsckTest, MissingAndWrongPositionsAreWrittenAgain) {
  const auto entry = get<pb::Entry>(key::entry(below_, "file"));
  damage([&](Transaction& txn) { txn.erase(key::cookie(below_, entry.cookie())); });
  expect_mended("missing from listings");
  damage(
      [&](Transaction& txn) { txn.put(key::cookie(below_, entry.cookie()), std::string("elif")); });
  expect_mended("names another entry");
  damage([&](Transaction& txn) { txn.put(key::cookie(below_, 900), std::string("nobody")); });
  expect_mended("is no entry");
}

TEST_F(FsckTest, CountsOfInodesAreSet) {
  auto inode = get<pb::Inode>(key::inode(file_));
  inode.set_nlink(7);
  inode.set_xattr_count(3);
  inode.set_blocks_mapped(99);
  damage([&](Transaction& txn) { txn.put(key::inode(file_), inode); });
  expect_mended("counts 7 links and has 1");
  auto directory = get<pb::Inode>(key::inode(directory_));
  directory.set_nlink(9);
  directory.set_next_cookie(1);
  directory.set_parent(below_);
  damage([&](Transaction& txn) { txn.put(key::inode(directory_), directory); });
  expect_mended("would give a position twice");
}

TEST_F(FsckTest, AttributesOfNothingGo) {
  damage([&](Transaction& txn) { txn.put(key::xattr(4711, "user.x"), std::string("v")); });
  expect_mended("belongs to inode 4711");
}

TEST_F(FsckTest, LiveCountsReverseMapAndTotalsAreComputedAnew) {
  pb::StripeLive live;
  live.set_slots(1);
  damage([&](Transaction& txn) {
    txn.put(key::live(5), live);
    txn.erase(key::owner(6, 0));
    txn.put(key::live(4711), live);
    Totals totals;
    totals.inodes = 12345;
    write_totals(txn, totals);
  });
  expect_mended("slots are mapped");
}

TEST_F(FsckTest, DamageOfNothingGoes) {
  pb::Damage record;
  record.set_stripe(4711);
  damage([&](Transaction& txn) { txn.put(key::damage(4711, 0), record); });
  expect_mended("damage of stripe 4711");
}

TEST_F(FsckTest, WhatIsLostIsSaidAndNothingIsHidden) {
  damage([&](Transaction& txn) { txn.erase(key::stripe(5)); });
  const auto mended = run(true);
  EXPECT_GT(mended.findings_total(), mended.mended_total());
  EXPECT_THAT(mended.DebugString(), testing::HasSubstr("which does not exist"));
  // The other file and this one's record are as they were.
  EXPECT_EQ(runs_of(store_->begin(), other_, 0, 10).value().size(), 1u);
  EXPECT_EQ(runs_of(store_->begin(), file_, 0, 10).value().size(), 1u);
  EXPECT_GT(run(false).findings_total(), 0u);
}

TEST_F(FsckTest, RandomDamageNeverCrashesAndSparesTheRest) {
  std::mt19937_64 random(test_seed());
  const std::string safe = key::inode(other_);
  for (int round = 0; round < 300; ++round) {
    Transaction txn = store_->begin();
    std::vector<std::pair<std::string, std::string>> records;
    for (const char kind : std::string("EDXLRBKO")) {
      const std::string prefix(1, kind);
      ASSERT_TRUE(txn.scan(prefix, key::after_prefix(prefix), [&](auto k, auto v) {
        records.emplace_back(k, v);
        return true;
      }));
    }
    ASSERT_FALSE(records.empty());
    auto [k, v] = records[random() % records.size()];
    if (random() % 3 == 0) {
      txn.erase(k);
    } else {
      for (auto& c : v) c = random() % 4 == 0 ? static_cast<char>(random()) : c;
      if (random() % 4 == 0) v.resize(v.size() / 2);
      txn.put(k, v);
    }
    ASSERT_TRUE(store_->commit(std::move(txn)));
    run(true);
    ASSERT_EQ(runs_of(store_->begin(), other_, 0, 10).value().size(), 1u);
    ASSERT_EQ(get<pb::Inode>(safe).size(), 3u * 4096);
  }
}

}  // namespace
}  // namespace datacloud
