// What becomes of unwritten data when the session with the daemon ends: kept when nobody else has
// changed the file, dropped and told once when somebody has.
#include <gmock/gmock.h>

#include "tests/fs/file/file_rig.h"

namespace datacloud {
namespace {

class SessionLossTest : public FileRig, public ::testing::Test {
 protected:
  SessionLossTest() : FileRig(2 << 20) {}

  // An open file with `synced` committed and `unsynced` written behind it.
  InodePtr half_written(const std::string& name, size_t synced, size_t unsynced) {
    const InodePtr inode = open_new(name);
    inode->opens = 1;
    watch(inode);
    if (synced) write(inode, 0, std::string(synced, 's'));
    EXPECT_TRUE(io_->flush(inode, true));
    if (unsynced) write(inode, synced, std::string(unsynced, 'u'));
    return inode;
  }
  // The file that fsync() is of.
  void watch(const InodePtr& inode) {
    handle_ = std::make_unique<FileHandle>();
    handle_->inode = inode;
  }
  void write(const InodePtr& inode, uint64_t offset, const std::string& data) {
    const auto written = io_->write(inode, offset, as_bytes(data), false);
    EXPECT_TRUE(written) << written.error().message();
  }
  // As fsync: the flush, then what was lost.
  result<void> fsync(const InodePtr&) { return io_->fsync(*handle_); }
  void expect_told_once(const InodePtr& inode) {
    const auto told = fsync(inode);
    ASSERT_FALSE(told);
    EXPECT_EQ(told.error().errno_value(), EIO);
    EXPECT_TRUE(fsync(inode)) << "once";
    EXPECT_EQ(io_->data_losses(), 1u);
  }
  void expect_kept(const InodePtr& inode, const std::string& expected) {
    const auto synced = fsync(inode);
    EXPECT_TRUE(synced) << synced.error().message();
    reader_->invalidate(inode->ino);
    EXPECT_EQ(read_all(inode, 0, expected.size() + 1), expected);
    EXPECT_EQ(io_->data_losses(), 0u);
  }

  std::unique_ptr<FileHandle> handle_;
};

TEST_F(SessionLossTest, DataOfAFileSyncedBeforeAreKept) {
  const InodePtr inode = half_written("file", 10'000, 20'000);
  daemon_->end_session();
  expect_kept(inode, std::string(10'000, 's') + std::string(20'000, 'u'));
}

TEST_F(SessionLossTest, TruncatesAreKept) {
  const InodePtr inode = half_written("file", 10'000, 0);
  ASSERT_TRUE(io_->truncate(inode, 5'000));
  ASSERT_TRUE(io_->truncate(inode, 6'000));
  daemon_->end_session();
  expect_kept(inode, std::string(5'000, 's') + std::string(1'000, '\0'));
}

// A commit that was answered is gone with the daemon's machine, and cannot be made again.
TEST_F(SessionLossTest, ALostCommitIsTold) {
  const InodePtr inode = half_written("file", 10'000, 2'000);
  const uint64_t first = inode->stored.change_id;
  ASSERT_TRUE(io_->flush(inode, false));
  const uint64_t newest = inode->stored.change_id;
  ASSERT_NE(newest, first);
  io_->commit_lost(inode, first);
  EXPECT_TRUE(fsync(inode)) << "a later commit has replaced it, and speaks for both";
  write(inode, 12'000, "based on what is lost");
  io_->commit_lost(inode, newest);
  EXPECT_TRUE(inode->clean());
  expect_told_once(inode);
}

// After a restart the numbers of transactions may begin lower: what is told then counts.
TEST_F(SessionLossTest, NumbersOfBeforeARestartDoNotHideNews) {
  const InodePtr inode = half_written("file", 10'000, 0);
  inode->attr_sequence = 1'000'000;
  pb::Inode news = inode->attr;
  news.set_mode(0100600);
  table_.apply(news, pb::LEASE_NONE, false, 5, daemon_->session(), 1'000'000);
  EXPECT_NE(inode->attr.mode(), 0100600u);
  table_.forget_sequences();
  table_.apply(news, pb::LEASE_NONE, false, 5, daemon_->session(), 1'000'000);
  EXPECT_EQ(inode->attr.mode(), 0100600u);
}

TEST_F(SessionLossTest, WhatAnotherMountHasChangedReadsAsCommitted) {
  const InodePtr inode = half_written("file", 10'000, 20'000);
  daemon_->end_session();
  daemon_->cut_elsewhere(inode->ino, 3'000);
  EXPECT_EQ(read_all(inode, 0, 100'000), std::string(3'000, 's'));
  EXPECT_EQ(inode->attr.size(), 3'000u);
  EXPECT_EQ(io_->blocks_used(inode).blocks, 1u);
  EXPECT_TRUE(inode->clean());
  EXPECT_EQ(io_->budget().used(), 0u);
  expect_told_once(inode);
  write(inode, 3'000, "more");
  EXPECT_TRUE(fsync(inode));
  reader_->invalidate(inode->ino);
  EXPECT_EQ(read_all(inode, 0, 100'000), std::string(3'000, 's') + "more");
}

// Also where the first thing that happens is the fsync, or a write of the same program.
TEST_F(SessionLossTest, AFlushFindsOutByItself) {
  const InodePtr inode = half_written("file", 10'000, 20'000);
  daemon_->end_session();
  daemon_->cut_elsewhere(inode->ino, 3'000);
  expect_told_once(inode);
  EXPECT_EQ(read_all(inode, 0, 100'000), std::string(3'000, 's'));
}

TEST_F(SessionLossTest, AFileNeverSyncedIsTreatedAlike) {
  const InodePtr kept = half_written("kept", 0, 5'000);
  daemon_->end_session();
  expect_kept(kept, std::string(5'000, 'u'));
  const InodePtr changed = half_written("changed", 0, 5'000);
  daemon_->end_session();
  daemon_->cut_elsewhere(changed->ino, 7);
  expect_told_once(changed);
  EXPECT_EQ(read_all(changed, 0, 100), std::string(7, '\0'));
}

// A commit was on its way when the session ended. It must not be made in the next session on top of
// what others have done, and new data must be, though they wait behind it.
TEST_F(SessionLossTest, ACommitUnderWayDoesNotOverwriteTheOthersChange) {
  const InodePtr inode = half_written("file", 10'000, 20'000);
  daemon_->hold_commits = true;
  (void)io_->start_flush(inode, FileIo::Take::everything, Urgency::now, false);
  while (daemon_->commits_held == 0) std::this_thread::sleep_for(milliseconds(1));
  daemon_->end_session();
  daemon_->cut_elsewhere(inode->ino, 0);
  EXPECT_EQ(read_all(inode, 0, 100'000), "");
  write(inode, 0, "new");
  daemon_->hold_commits = false;
  expect_told_once(inode);
  reader_->invalidate(inode->ino);
  EXPECT_EQ(read_all(inode, 0, 100'000), "new");
  EXPECT_EQ(inode->stored.blocks_mapped, 1u);
  EXPECT_EQ(io_->budget().used(), 0u);
  EXPECT_THAT(daemon_->check(), ::testing::IsEmpty());
}

TEST_F(SessionLossTest, AFileThatIsGoneIsToldAndEnds) {
  const InodePtr inode = half_written("file", 10'000, 20'000);
  daemon_->end_session();
  daemon_->remove(inode->ino, "file");
  expect_told_once(inode);
  EXPECT_TRUE(inode->clean()) << "not tried again for ever";
  FileHandle handle;
  handle.inode = inode;
  const auto read = io_->read(handle, 0, 10);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().errno_value(), ESTALE);
}

// The daemon comes back with an older copy of its records.
TEST_F(SessionLossTest, RestoredRecords) {
  const InodePtr same = half_written("same", 5'000, 0), later = half_written("later", 5'000, 0);
  daemon_->save();
  watch(later);
  write(later, 5'000, std::string(9'000, 'l'));
  ASSERT_TRUE(fsync(later));
  write(later, 0, "x");
  write(same, 5'000, "kept");
  const InodePtr young = open_new("young");
  young->opens = 1;
  write(young, 0, "young");
  daemon_->restore();
  const InodeId reused = daemon_->create_file("other");
  EXPECT_EQ(reused, young->ino) << "the test's point";

  EXPECT_EQ(read_all(later, 0, 100'000), std::string(5'000, 's')) << "no mixture of two states";
  expect_told_once(later);
  watch(same);
  EXPECT_TRUE(fsync(same));
  EXPECT_EQ(read_all(same, 0, 100'000), std::string(5'000, 's') + "kept");
  watch(young);
  EXPECT_FALSE(fsync(young)) << "its inode number is another file's";
  EXPECT_EQ(read_all(young, 0, 100), "");
}

// Pages of mappings that the kernel has not written back are of the old state, too.
TEST_F(SessionLossTest, PagesOfMappingsAreDroppedWithTheState) {
  const InodePtr inode = half_written("file", 10'000, 0);
  daemon_->end_session();
  daemon_->cut_elsewhere(inode->ino, 4'096);
  const std::string page(4'096, 'p');
  ASSERT_TRUE(io_->write(inode, 0, as_bytes(page), false, FileIo::Origin::pages));
  EXPECT_THAT(pages_to_drop_, ::testing::ElementsAre(inode)) << "the kernel is asked to";
  EXPECT_TRUE(inode->clean());
  expect_told_once(inode);
  io_->pages_dropped(inode);
  ASSERT_TRUE(io_->write(inode, 0, as_bytes(page), false, FileIo::Origin::pages));
  EXPECT_TRUE(fsync(inode));
  EXPECT_EQ(read_all(inode, 0, 100'000), page);
}

TEST_F(SessionLossTest, PagesOfMappingsAreKeptWhereNobodyChangedTheFile) {
  const InodePtr inode = half_written("file", 4'096, 0);
  daemon_->end_session();
  const std::string page(4'096, 'p');
  ASSERT_TRUE(io_->write(inode, 0, as_bytes(page), false, FileIo::Origin::pages));
  EXPECT_THAT(pages_to_drop_, ::testing::IsEmpty());
  expect_kept(inode, page);
}

}  // namespace
}  // namespace datacloud
