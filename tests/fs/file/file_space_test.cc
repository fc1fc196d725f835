// What programs are told, and what becomes of their data, when there is no space: told once and
// early, the file as it was committed, nothing of it stored later, and all well again with room.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/out_of_space.h"
#include "tests/fs/file/file_rig.h"
#include "tests/support/slowdown.h"

namespace datacloud {
namespace {

using ::testing::HasSubstr;

class FileSpace : public FileRig, public ::testing::Test {
 protected:
  FileSpace() : FileRig(1 << 20) { set_full(false); }

  void set_full(bool full, const Error& error = Error(Errc::no_space, "full")) {
    for (uint32_t site = 1; site <= 5; ++site) {
      set_put_fault(site, full ? Fault{.kind = Fault::Kind::fail_before, .error = error} : Fault{});
    }
  }
  std::unique_ptr<FileHandle> open(const InodePtr& inode) {
    auto handle = std::make_unique<FileHandle>();
    handle->inode = inode;
    std::lock_guard lock(inode->mutex);
    ++inode->opens;
    handle->losses_seen = inode->losses;
    return handle;
  }
  // As a program that lives closes it.
  result<void> close(FileHandle& handle) {
    return io_->close(handle, [] { return false; });
  }
  int write(const InodePtr& inode, uint64_t offset, const std::string& data,
            FileIo::Origin origin = FileIo::Origin::program) {
    auto done = io_->write(inode, offset, as_bytes(data), false, origin);
    return done ? 0 : done.error().errno_value();
  }
  static int outcome(const result<void>& done) { return done ? 0 : done.error().errno_value(); }
  size_t objects() {
    size_t count = 0;
    for (auto& control : controls_) count += control.object_count();
    return count;
  }
  uint64_t size_of(const InodePtr& inode) {
    std::lock_guard lock(inode->mutex);
    return inode->attr.size();
  }
  // Writes and syncs new files until that works.
  void expect_room_soon() {
    const auto limit = monotonic_now() + RefusalPause::kMax + seconds(5) * kSlowdown;
    for (int i = 0;; ++i) {
      const auto file = open(open_new("room" + std::to_string(i)));
      const int written = write(file->inode, 0, std::string(100'000, 'r'));
      if (written == 0 && io_->fsync(*file)) return;
      ASSERT_LT(monotonic_now(), limit) << "room is not noticed";
      std::this_thread::sleep_for(milliseconds(20));
    }
  }
};

TEST_F(FileSpace, FsyncTellsOnceAndTheFileIsWhatWasCommitted) {
  const auto file = open(open_new("file"));
  const std::string before(10'000, 'b');
  ASSERT_EQ(write(file->inode, 0, before), 0);
  ASSERT_TRUE(io_->fsync(*file));
  set_full(true);
  ASSERT_EQ(write(file->inode, 5'000, std::string(90'000, 'n')), 0);
  EXPECT_EQ(size_of(file->inode), 95'000u);
  const auto start = monotonic_now();
  EXPECT_EQ(outcome(io_->fsync(*file)), ENOSPC);
  EXPECT_LT(monotonic_now() - start, seconds(1) * kSlowdown);
  EXPECT_EQ(size_of(file->inode), before.size());
  EXPECT_EQ(read_all(file->inode, 0, 100'000), before);
  EXPECT_EQ(io_->budget().used(), 0u);
  EXPECT_EQ(outcome(io_->fsync(*file)), 0) << "told once";
  EXPECT_EQ(outcome(close(*file)), 0);
}

TEST_F(FileSpace, QuotaIsToldAsSuch) {
  const auto file = open(open_new("file"));
  set_full(true, quota_error("full"));
  ASSERT_EQ(write(file->inode, 0, std::string(50'000, 'n')), 0);
  EXPECT_EQ(outcome(io_->fsync(*file)), EDQUOT);
}

TEST_F(FileSpace, WritesAreRefusedAtOnceOnceItIsKnown) {
  const auto first = open(open_new("first")), second = open(open_new("second"));
  set_full(true);
  ASSERT_EQ(write(first->inode, 0, std::string(100'000, 'n')), 0);
  ASSERT_EQ(outcome(io_->fsync(*first)), ENOSPC);
  const auto start = monotonic_now();
  const int puts = puts_seen_;
  EXPECT_EQ(write(second->inode, 0, std::string(1'000'000, 'n')), ENOSPC);
  EXPECT_EQ(puts_seen_, puts);
  EXPECT_LT(monotonic_now() - start, seconds(1) * kSlowdown);
  EXPECT_EQ(size_of(second->inode), 0u);
  EXPECT_EQ(outcome(close(*second)), 0) << "nothing of it was taken";
  set_full(false);
  expect_room_soon();
}

// The failed file's data must not take the room that was made for something else.
TEST_F(FileSpace, WhatAProgramWasToldIsLostIsNotStoredLater) {
  const auto failed = open(open_new("failed"));
  set_full(true);
  ASSERT_EQ(write(failed->inode, 0, std::string(300'000, 'n')), 0);
  ASSERT_EQ(outcome(close(*failed)), 0) << "not known yet: written in the background";
  io_->start_flush(failed->inode, FileIo::Take::everything, Urgency::now, false);
  const auto second = open(failed->inode);
  EXPECT_EQ(outcome(io_->fsync(*second)), ENOSPC);
  set_full(false);
  expect_room_soon();
  const size_t objects_before = objects();
  io_->start_flush(failed->inode, FileIo::Take::everything, Urgency::now, false);
  ASSERT_TRUE(io_->flush_all());
  EXPECT_EQ(objects(), objects_before);
  EXPECT_EQ(size_of(failed->inode), 0u);
  EXPECT_THAT(io_->dirty_inodes(), ::testing::IsEmpty());
}

// Nobody was told: what close has taken is kept, and stored as soon as there is room.
TEST_F(FileSpace, WhatWasTakenByASuccessfulCloseIsKeptAndStoredWithRoom) {
  const auto file = open(open_new("file"));
  const std::string data(200'000, 'k');
  ASSERT_EQ(write(file->inode, 0, data), 0);
  set_full(true);
  ASSERT_EQ(outcome(close(*file)), 0);
  EXPECT_FALSE(io_->flush(file->inode, false));
  EXPECT_FALSE(io_->flush_all()) << "sync tells, and whose data it is does not hear it";
  EXPECT_EQ(read_all(file->inode, 0, data.size()), data);
  set_full(false);
  expect_room_soon();
  ASSERT_TRUE(io_->flush(file->inode, true));
  reader_->invalidate(file->inode->ino);
  EXPECT_EQ(read_all(file->inode, 0, data.size()), data);
}

TEST_F(FileSpace, EachHandleIsToldAndCloseDoesNotKeepItFromFsync) {
  const auto inode = open_new("file");
  const auto one = open(inode), two = open(inode), idle = open(inode);
  set_full(true);
  ASSERT_EQ(write(inode, 0, std::string(200'000, 'n')), 0);
  EXPECT_EQ(outcome(io_->fsync(*one)), ENOSPC);
  EXPECT_EQ(outcome(io_->fsync(*one)), 0);
  EXPECT_EQ(outcome(close(*two)), ENOSPC) << "a child's exit, for example";
  EXPECT_EQ(outcome(io_->fsync(*two)), ENOSPC);
  EXPECT_EQ(outcome(io_->fsync(*two)), 0);
  EXPECT_EQ(outcome(close(*two)), 0);
  EXPECT_EQ(outcome(close(*idle)), ENOSPC);
  EXPECT_EQ(outcome(io_->fsync(*open(inode))), 0) << "opened afterwards";
}

// Other files are not concerned, whether stored before or written when there is room again.
TEST_F(FileSpace, AFailureIsNobodyElses) {
  const auto failed = open(open_new("failed")), other = open(open_new("other"));
  ASSERT_EQ(write(other->inode, 0, std::string(5'000, 'o')), 0);
  ASSERT_TRUE(io_->fsync(*other));
  set_full(true);
  ASSERT_EQ(write(failed->inode, 0, std::string(200'000, 'n')), 0);
  ASSERT_EQ(outcome(io_->fsync(*failed)), ENOSPC);
  EXPECT_EQ(outcome(io_->fsync(*other)), 0) << "it has nothing to store";
  set_full(false);
  expect_room_soon();
  EXPECT_EQ(write(failed->inode, 0, std::string(1'000, 'y')), 0);
  EXPECT_EQ(outcome(io_->fsync(*failed)), 0);
  EXPECT_EQ(read_all(failed->inode, 0, 2'000), std::string(1'000, 'y'));
}

TEST_F(FileSpace, ATruncationThatFailsWithItsDataIsUndone) {
  const auto file = open(open_new("file"));
  const std::string before(50'000, 'b');
  ASSERT_EQ(write(file->inode, 0, before), 0);
  ASSERT_TRUE(io_->fsync(*file));
  set_full(true);
  ASSERT_TRUE(io_->truncate(file->inode, 0));
  ASSERT_EQ(write(file->inode, 0, std::string(60'000, 'n')), 0);
  EXPECT_EQ(outcome(io_->fsync(*file)), ENOSPC);
  EXPECT_EQ(read_all(file->inode, 0, 100'000), before) << "the old contents, not an empty file";
}

TEST_F(FileSpace, EmptyingAFileNeedsNoSpace) {
  const auto file = open(open_new("file"));
  ASSERT_EQ(write(file->inode, 0, std::string(50'000, 'b')), 0);
  ASSERT_TRUE(io_->fsync(*file));
  set_full(true);
  const auto other = open(open_new("other"));
  ASSERT_EQ(write(other->inode, 0, std::string(200'000, 'n')), 0);
  ASSERT_EQ(outcome(io_->fsync(*other)), ENOSPC);
  ASSERT_TRUE(io_->truncate(file->inode, 0));
  EXPECT_EQ(outcome(io_->fsync(*file)), 0);
  EXPECT_EQ(size_of(file->inode), 0u);
}

// The kernel has told the program long ago that these are written: the next fsync tells.
TEST_F(FileSpace, PagesOfMappingsAreTakenAndFsyncTells) {
  const auto file = open(open_new("file")), other = open(open_new("other"));
  set_full(true);
  ASSERT_EQ(write(other->inode, 0, std::string(100'000, 'n')), 0);
  ASSERT_EQ(outcome(io_->fsync(*other)), ENOSPC);
  EXPECT_EQ(write(file->inode, 0, std::string(1'000'000, 'm'), FileIo::Origin::pages), 0);
  EXPECT_EQ(outcome(io_->fsync(*file)), ENOSPC);
  EXPECT_EQ(size_of(file->inode), 0u);
}

// Memory full of what cannot be stored (4 MiB here): writers do not wait for the deadline each.
TEST_F(FileSpace, WithMemoryFullNobodyWaits) {
  const auto file = open(open_new("file")), other = open(open_new("other"));
  ASSERT_EQ(write(file->inode, 0, std::string(kBlock, 'f')), 0);
  set_full(true);
  ASSERT_EQ(write(file->inode, 0, std::string(3'900'000, 'f'), FileIo::Origin::pages), 0);
  ASSERT_FALSE(io_->flush(file->inode, false));
  const auto start = monotonic_now();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(write(other->inode, 0, std::string(500'000, 'o')), ENOSPC);
  EXPECT_LT(monotonic_now() - start, seconds(1) * kSlowdown);
}

TEST_F(FileSpace, WithSitesAwayWritersWaitForOneDeadlineInAll) {
  const auto file = open(open_new("file")), other = open(open_new("other"));
  for (int i = 0; i < 3; ++i) controls_[i].set_away(true);
  ASSERT_EQ(write(file->inode, 0, std::string(3'900'000, 'f')), 0);
  ASSERT_FALSE(io_->flush(file->inode, false));
  const auto start = monotonic_now();
  for (int i = 0; i < 5; ++i) EXPECT_EQ(write(other->inode, 0, std::string(500'000, 'o')), EIO);
  EXPECT_LT(monotonic_now() - start, milliseconds(2 * config_.put_deadline_ms));
  for (int i = 0; i < 3; ++i) controls_[i].set_away(false);
  const auto limit = monotonic_now() + seconds(20) * kSlowdown;
  while (!io_->flush(file->inode, true)) ASSERT_LT(monotonic_now(), limit);
  EXPECT_EQ(write(other->inode, 0, std::string(500'000, 'o')), 0);
}

}  // namespace
}  // namespace datacloud
