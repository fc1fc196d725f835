// copy_file_range without the kernel: what is shared, what is copied, and that bytes are the
// source's whatever happens to either file before, meanwhile and afterwards.
#include <gmock/gmock.h>

#include "tests/fs/file/file_rig.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

using Copying = FileIo::Copying;

// Once with a cache of blocks, and once without: everything then comes from the sites.
class FileIoCloneTest : public FileRig, public ::testing::TestWithParam<uint64_t> {
 protected:
  FileIoCloneTest() : FileRig(GetParam()) {}

  struct File {
    InodePtr inode;
    FileHandle handle;
    std::string bytes;  // as they should be
  };
  std::unique_ptr<File> make(const std::string& name, const std::string& bytes = "") {
    auto file = std::make_unique<File>();
    file->inode = file->handle.inode = open_new(name);
    file->inode->opens = 1;
    if (!bytes.empty()) write(*file, 0, bytes);
    return file;
  }
  void write(File& file, uint64_t offset, const std::string& data) {
    const auto written = io_->write(file.inode, offset, as_bytes(data), false);
    ASSERT_TRUE(written) << written.error().message();
    if (file.bytes.size() < offset + data.size()) file.bytes.resize(offset + data.size());
    file.bytes.replace(offset, data.size(), data);
  }
  void truncate(File& file, uint64_t size) {
    ASSERT_TRUE(io_->truncate(file.inode, size));
    file.bytes.resize(size);
  }
  result<FileIo::Copied> copy(File& from, uint64_t at, File& to, uint64_t to_at, uint64_t length,
                              Copying how = Copying::share_or_copy) {
    const auto copied = io_->copy_range(from.handle, at, to.handle, to_at, length, how);
    if (copied && copied.value().bytes > 0) {
      const std::string part = from.bytes.substr(at, copied.value().bytes);
      EXPECT_EQ(part.size(), copied.value().bytes) << "not more than the source has";
      if (to.bytes.size() < to_at + part.size()) to.bytes.resize(to_at + part.size());
      to.bytes.replace(to_at, part.size(), part);
    }
    return copied;
  }
  // All of it shared, and no byte written.
  void share(File& from, uint64_t at, File& to, uint64_t to_at, uint64_t length) {
    const int puts = puts_seen_;
    flush_in_time(from.inode);
    flush_in_time(to.inode);
    const int flushed = puts_seen_ - puts;
    const auto shared = copy(from, at, to, to_at, length, Copying::share);
    ASSERT_TRUE(shared) << shared.error().message();
    EXPECT_EQ(shared.value().bytes, length);
    EXPECT_EQ(shared.value().shared, length);
    EXPECT_EQ(puts_seen_ - puts, flushed);
  }
  static int errno_of(const result<FileIo::Copied>& copied) {
    return copied ? 0 : copied.error().errno_value();
  }
  void expect_bytes(File& file) {
    EXPECT_EQ(file.inode->attr.size(), file.bytes.size());
    EXPECT_TRUE(read_in_time(file.inode, 0, file.bytes.size() + 1) == file.bytes)
        << file.inode->ino;
  }
  // As read by this mount, and by another one later.
  void expect_sound(std::initializer_list<File*> files) {
    for (File* file : files) {
      expect_bytes(*file);
      flush_in_time(file->inode);
      const uint64_t mapped = file->inode->stored.blocks_mapped;
      EXPECT_EQ(io_->blocks_used(file->inode).blocks, mapped);
      reader_->invalidate(file->inode->ino);
      file->inode->attr_stale = true;
      expect_bytes(*file);
      EXPECT_EQ(file->inode->stored.blocks_mapped, mapped);
      EXPECT_EQ(file->inode->losses, 0u);
    }
    EXPECT_EQ(io_->budget().used(), 0u);
    EXPECT_THAT(daemon_->check(), ::testing::IsEmpty());
  }
  static std::string letters(size_t size, uint64_t seed = 1) {
    std::mt19937_64 random(seed);
    std::string out(size, '\0');
    for (auto& c : out) c = static_cast<char>('a' + random() % 26);
    return out;
  }
};

TEST_P(FileIoCloneTest, WholeFileWithAPartialLastBlock) {
  const auto a = make("a", letters(3 * kBlock + 100)), b = make("b");
  const int64_t before = wall_now_ns();
  share(*a, 0, *b, 0, a->bytes.size());
  EXPECT_GE(b->inode->attr.mtime_ns(), before);
  EXPECT_EQ(b->inode->attr.ctime_ns(), b->inode->attr.mtime_ns());
  EXPECT_EQ(io_->blocks_used(b->inode).blocks, 4u);
  EXPECT_TRUE(b->inode->clean());
  expect_sound({a.get(), b.get()});
}

TEST_P(FileIoCloneTest, AfterwardsEachGoesItsOwnWay) {
  const auto a = make("a", letters(4 * kBlock)), b = make("b"), c = make("c");
  share(*a, 0, *b, 0, 4 * kBlock);
  share(*b, kBlock, *c, 0, 2 * kBlock);
  write(*a, kBlock + 5, "changed in a");
  write(*b, 2 * kBlock, std::string(kBlock, 'B'));
  expect_sound({a.get(), b.get(), c.get()});
  truncate(*a, 0);
  expect_sound({a.get(), b.get(), c.get()});
}

// What a shared last block holds is the source's; the target's size may go another way.
TEST_P(FileIoCloneTest, ASharedTailIsExtendedCutAndWrittenPast) {
  const auto a = make("a", letters(2 * kBlock + 1000));
  int number = 0;
  const auto clone = [&] {
    auto file = make("clone" + std::to_string(++number));
    share(*a, 0, *file, 0, a->bytes.size());
    return file;
  };
  const auto longer = clone(), shorter = clone(), past = clone(), within = clone(), up = clone();
  truncate(*longer, 3 * kBlock + 7);
  truncate(*shorter, 2 * kBlock + 10);
  truncate(*shorter, 2 * kBlock + 500);
  write(*past, 2 * kBlock + 2000, "past");
  write(*within, 2 * kBlock + 999, "xyz");
  truncate(*up, kBlock);
  truncate(*up, 3 * kBlock);
  write(*a, 2 * kBlock + 1000, "the source goes on");
  expect_sound({a.get(), longer.get(), shorter.get(), past.get(), within.get(), up.get()});
}

TEST_P(FileIoCloneTest, ATailInFrontOfMoreIsCopied) {
  const auto a = make("a", letters(kBlock + 100)), b = make("b", letters(3 * kBlock, 2));
  flush_in_time(a->inode);
  flush_in_time(b->inode);
  EXPECT_EQ(errno_of(copy(*a, kBlock, *b, kBlock, 100, Copying::share)), EINVAL);
  EXPECT_EQ(errno_of(copy(*a, kBlock, *b, kBlock, 100)), EOPNOTSUPP) << "the caller copies";
  const auto copied = copy(*a, 0, *b, kBlock, kBlock + 100);
  ASSERT_TRUE(copied) << copied.error().message();
  EXPECT_EQ(copied.value().bytes, kBlock + 100);
  EXPECT_EQ(copied.value().shared, kBlock);
  // Where both end there it is shared, also in place of something shorter.
  const auto c = make("c", letters(kBlock + 50, 3));
  share(*a, 0, *c, 0, kBlock + 100);
  expect_sound({a.get(), b.get(), c.get()});
}

TEST_P(FileIoCloneTest, HolesStayHoles) {
  const auto a = make("a", letters(kBlock)), b = make("b", letters(8 * kBlock, 2));
  write(*a, 5 * kBlock, letters(10));
  truncate(*a, 8 * kBlock);
  share(*a, 0, *b, 0, 8 * kBlock);
  EXPECT_EQ(io_->blocks_used(b->inode).blocks, 2u);
  EXPECT_EQ(io_->seek(b->inode, 0, false).value(), kBlock);
  EXPECT_EQ(io_->seek(b->inode, kBlock, true).value(), 5 * kBlock);
  expect_sound({a.get(), b.get()});
}

TEST_P(FileIoCloneTest, EdgesAreCopied) {
  const auto a = make("a", letters(10 * kBlock)), b = make("b", letters(10 * kBlock, 2));
  flush_in_time(a->inode);
  flush_in_time(b->inode);
  const auto copied = copy(*a, 1000, *b, 2 * kBlock + 1000, 5 * kBlock);
  ASSERT_TRUE(copied) << copied.error().message();
  EXPECT_EQ(copied.value().bytes, 5 * kBlock);
  EXPECT_EQ(copied.value().shared, 4 * kBlock);
  EXPECT_EQ(errno_of(copy(*a, 1000, *b, 2 * kBlock + 1000, 5 * kBlock, Copying::share)), EINVAL);
  EXPECT_EQ(errno_of(copy(*a, 1000, *b, 1001, 5 * kBlock)), EOPNOTSUPP);
  EXPECT_EQ(errno_of(copy(*a, 1000, *b, 1000, 1000)), EOPNOTSUPP) << "no whole block";
  expect_sound({a.get(), b.get()});
}

TEST_P(FileIoCloneTest, WithinOneFile) {
  const auto a = make("a", letters(6 * kBlock));
  share(*a, 0, *a, 3 * kBlock, 2 * kBlock);
  share(*a, 0, *a, 10 * kBlock, 3 * kBlock);
  EXPECT_EQ(errno_of(copy(*a, 0, *a, kBlock, 2 * kBlock)), EINVAL);
  EXPECT_EQ(errno_of(copy(*a, kBlock, *a, 0, 2 * kBlock)), EINVAL);
  expect_sound({a.get()});
}

TEST_P(FileIoCloneTest, NothingOfTheSourceOrBeyondItsEnd) {
  const auto a = make("a", letters(kBlock)), b = make("b");
  EXPECT_EQ(copy(*a, 0, *b, 0, 0).value().bytes, 0u);
  flush_in_time(a->inode);
  EXPECT_EQ(copy(*a, 4 * kBlock, *b, 0, kBlock).value().bytes, 0u);
  EXPECT_EQ(copy(*a, 0, *b, 0, 100 * kBlock).value().bytes, kBlock);
  EXPECT_EQ(errno_of(copy(*a, 0, *b, FileIo::kFileBytesMax, kBlock)), EFBIG);
  expect_sound({a.get(), b.get()});
}

TEST_P(FileIoCloneTest, DirtyDataAreSharedAsTheyAreNow) {
  const auto a = make("a", letters(4 * kBlock)), b = make("b", letters(4 * kBlock, 2));
  EXPECT_EQ(errno_of(copy(*a, 0, *b, 0, 4 * kBlock)), EOPNOTSUPP) << "faster in memory";
  auto shared = copy(*a, 0, *b, 0, 4 * kBlock, Copying::share);
  ASSERT_TRUE(shared) << shared.error().message();
  EXPECT_EQ(shared.value().shared, 4 * kBlock);
  write(*a, kBlock, "dirty");
  truncate(*a, 3 * kBlock);
  shared = copy(*a, 0, *b, 0, 4 * kBlock, Copying::share);
  ASSERT_TRUE(shared) << shared.error().message();
  EXPECT_EQ(shared.value().shared, 3 * kBlock);
  expect_sound({a.get(), b.get()});
}

TEST_P(FileIoCloneTest, WhatTheDaemonDoesNotShareIsCopied) {
  const auto a = make("a", letters(20 * kBlock)), b = make("b", letters(3 * kBlock, 2));
  flush_in_time(a->inode);
  flush_in_time(b->inode);
  daemon_->refuse_clones = true;
  EXPECT_EQ(errno_of(copy(*a, 0, *b, kBlock, 20 * kBlock, Copying::share)), EMLINK);
  const auto copied = copy(*a, 0, *b, kBlock, 20 * kBlock);
  ASSERT_TRUE(copied) << copied.error().message();
  EXPECT_EQ(copied.value().bytes, 20 * kBlock);
  EXPECT_EQ(copied.value().shared, 0u);
  EXPECT_EQ(daemon_->clones_made, 0u);
  expect_sound({a.get(), b.get()});
}

TEST_P(FileIoCloneTest, SealedDifferentlyIsForTheCallerToCopy) {
  const auto a = make("a", letters(kBlock)), b = make("b");
  flush_in_time(a->inode);
  b->inode->attr.set_realm(1);
  EXPECT_EQ(errno_of(copy(*a, 0, *b, 0, kBlock)), EOPNOTSUPP);
  EXPECT_EQ(errno_of(copy(*a, 0, *b, 0, kBlock, Copying::share)), EINVAL);
  b->inode->attr.set_realm(0);
  b->inode->attr.mutable_policy()->set_block_bytes(2 * kBlock);
  EXPECT_EQ(errno_of(copy(*a, 0, *b, 0, kBlock)), EOPNOTSUPP);
  EXPECT_EQ(daemon_->clones_made, 0u);
}

// A change that another mount has made of the target while there was no session is the state that
// the clone follows.
TEST_P(FileIoCloneTest, SessionsEndWhileItIsMade) {
  const auto a = make("a", letters(8 * kBlock)), b = make("b", letters(8 * kBlock, 2));
  flush_in_time(a->inode);
  flush_in_time(b->inode);
  daemon_->lose_session_every_commit = 2;
  for (int turn = 0; turn < 8; ++turn) {
    const uint64_t at = static_cast<uint64_t>(turn % 4) * kBlock;
    const auto shared = copy(*a, at, *b, 2 * at, 2 * kBlock, Copying::share);
    ASSERT_TRUE(shared) << turn << ": " << shared.error().message();
    EXPECT_EQ(shared.value().bytes, 2 * kBlock);
  }
  daemon_->lose_session_every_commit = 0;
  expect_sound({a.get(), b.get()});
  daemon_->end_session();
  daemon_->cut_elsewhere(b->inode->ino, 0);
  b->bytes.clear();
  const auto shared = copy(*a, 0, *b, kBlock, 2 * kBlock, Copying::share);
  ASSERT_TRUE(shared) << shared.error().message();
  EXPECT_EQ(shared.value().bytes, 2 * kBlock);
  expect_sound({a.get(), b.get()});
}

// No answer comes: the caller is told or copies, and whatever the daemon has made of it, later
// reads and writes are on top of it.
TEST_P(FileIoCloneTest, CommitsFailWithoutAnAnswer) {
  const auto a = make("a", letters(8 * kBlock)), b = make("b", letters(8 * kBlock, 2));
  flush_in_time(a->inode);
  flush_in_time(b->inode);
  daemon_->fail_every_commit = 1;
  EXPECT_NE(errno_of(copy(*a, 0, *b, 0, 4 * kBlock, Copying::share)), 0);
  EXPECT_EQ(errno_of(copy(*a, 0, *b, 0, 4 * kBlock)), EOPNOTSUPP);
  daemon_->fail_every_commit = 0;
  expect_bytes(*b);
  write(*b, 3, "on top");
  const auto shared = copy(*a, kBlock, *b, kBlock, 4 * kBlock, Copying::share);
  ASSERT_TRUE(shared) << shared.error().message();
  expect_sound({a.get(), b.get()});
}

// Parts of a block are written while the whole block is replaced: what is not written is the
// source's, never what was there before.
TEST_P(FileIoCloneTest, PartialWritesMeanwhileKeepNothingOld) {
  const auto a = make("a", letters(2 * kBlock)), b = make("b", std::string(2 * kBlock, '-'));
  flush_in_time(a->inode);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    const std::string page(512, 'W');
    while (!stop) {
      for (const uint64_t at : {uint64_t{0}, uint64_t{kBlock}})
        if (!io_->write(b->inode, at, as_bytes(page), false)) return;
      std::this_thread::sleep_for(milliseconds(2));
    }
  });
  int shared = 0;
  for (int turn = 0; turn < 150; ++turn) {
    ASSERT_TRUE(io_->write(b->inode, 0, as_bytes(std::string(2 * kBlock, '-')), false));
    const auto done = io_->copy_range(a->handle, 0, b->handle, 0, 2 * kBlock, Copying::share);
    if (!done) continue;  // it did not come to rest
    ++shared;
    const std::string seen = read_in_time(b->inode, 0, 2 * kBlock);
    for (const uint64_t at : {uint64_t{0}, uint64_t{kBlock}})
      ASSERT_EQ(seen.substr(at + 512, kBlock - 512), a->bytes.substr(at + 512, kBlock - 512));
  }
  stop = true;
  writer.join();
  EXPECT_GT(shared, 0);
  flush_in_time(b->inode);
  EXPECT_THAT(daemon_->check(), ::testing::IsEmpty());
}

TEST_P(FileIoCloneTest, RandomOperationsMatchPlainFiles) {
  Seeded seed;
  std::vector<std::unique_ptr<File>> files;
  for (int i = 0; i < 4; ++i) files.push_back(make("file" + std::to_string(i)));
  uint64_t bytes_shared = 0;
  for (int step = 0; step < 1500; ++step) {
    File& file = *files[seed.number(0, 3)];
    const uint64_t kind = seed.number(0, 99);
    if (step % 300 == 200) daemon_->lose_session_every_commit = 5;
    if (step % 300 == 250) daemon_->lose_session_every_commit = 0;
    if (step % 300 == 100) daemon_->fail_every_commit = 6;
    if (step % 300 == 150) daemon_->fail_every_commit = 0;
    daemon_->refuse_clones = step % 300 > 280;
    if (kind < 30) {
      const uint64_t offset = seed.number(0, file.bytes.size() + 3000);
      write(file, offset, letters(seed.number(1, seed.number(0, 3) ? 3000 : 30000), kind + step));
    } else if (kind < 40) {
      truncate(file, seed.number(0, file.bytes.size() + 9000));
    } else if (kind < 45) {
      flush_in_time(file.inode);
    } else if (kind < 85) {
      File& from = *files[seed.number(0, 3)];
      const uint64_t shift = seed.number(0, 2) ? 0 : seed.number(1, kBlock - 1);
      const uint64_t at = seed.number(0, from.bytes.size() / kBlock) * kBlock + shift;
      const uint64_t to_at = seed.number(0, 20) * kBlock + shift;
      const uint64_t length = seed.number(0, 1) ? 1000 * kBlock : seed.number(0, 12 * kBlock);
      const auto how = seed.number(0, 1) ? Copying::share : Copying::share_or_copy;
      const auto copied = copy(from, at, file, to_at, length, how);
      if (copied) bytes_shared += copied.value().shared;
    } else {
      const uint64_t offset = seed.number(0, file.bytes.size());
      ASSERT_TRUE(read_in_time(file.inode, offset, 30000) == file.bytes.substr(offset, 30000))
          << "step " << step << " inode " << file.inode->ino << " losses " << file.inode->losses;
    }
    if (HasFatalFailure()) return;
  }
  daemon_->fail_every_commit = 0;
  EXPECT_GT(bytes_shared, 100 * kBlock);
  expect_sound({files[0].get(), files[1].get(), files[2].get(), files[3].get()});
}

INSTANTIATE_TEST_SUITE_P(CacheBytes, FileIoCloneTest, ::testing::Values(0, 2 << 20));

}  // namespace
}  // namespace datacloud
