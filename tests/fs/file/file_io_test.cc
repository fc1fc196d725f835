// The data path of a mount without the kernel: random writes, truncates, reads and flushes of
// several files by several threads against plain byte strings, while sites come and go, commits
// fail and sessions end; also which blocks hold data (st_blocks, SEEK_DATA, SEEK_HOLE) at any
// moment.
#include <gmock/gmock.h>

#include <set>

#include "tests/fs/file/file_rig.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

// Once with a cache of blocks, and once without: everything then comes from the sites.
class FileIoTest : public FileRig, public ::testing::TestWithParam<uint64_t> {
 protected:
  FileIoTest() : FileRig(GetParam()) {}

  void play(const InodePtr& inode, uint64_t seed, int steps);
};

// A file as a plain string and the set of its blocks that hold data: whatever was written since the
// last truncate below.
struct PlainFile {
  static constexpr uint64_t kBlock = 4096;
  std::string bytes;
  std::set<uint64_t> blocks;

  void write(uint64_t offset, const std::string& data) {
    if (bytes.size() < offset + data.size()) bytes.resize(offset + data.size());
    bytes.replace(offset, data.size(), data);
    for (uint64_t b = offset / kBlock; b * kBlock < offset + data.size(); ++b) blocks.insert(b);
  }
  void truncate(uint64_t size) {
    bytes.resize(size);
    blocks.erase(blocks.lower_bound((size + kBlock - 1) / kBlock), blocks.end());
  }
  // Negative: ENXIO.
  int64_t seek(uint64_t offset, bool data) const {
    if (offset >= bytes.size()) return -1;
    uint64_t block = offset / kBlock;
    while (block * kBlock < bytes.size() && blocks.contains(block) != data) ++block;
    if (block * kBlock >= bytes.size()) return data ? -1 : static_cast<int64_t>(bytes.size());
    return static_cast<int64_t>(std::max(offset, block * kBlock));
  }
};

// One file, one thread, compared with the model on the way and at the end.
void FileIoTest::play(const InodePtr& inode, uint64_t seed, int steps) {
  std::mt19937_64 random(seed);
  PlainFile model;
  const auto number = [&](uint64_t low, uint64_t high) {
    return std::uniform_int_distribution<uint64_t>(low, high)(random);
  };
  const auto expect_same_blocks = [&](int step) {
    const auto used = io_->blocks_used(inode);
    ASSERT_EQ(used.blocks, model.blocks.size()) << "step " << step;
    ASSERT_TRUE(used.exact);
    for (const bool data : {true, false}) {
      const uint64_t offset = number(0, model.bytes.size() + kBlock);
      const auto found = io_->seek(inode, offset, data);
      ASSERT_EQ(found ? static_cast<int64_t>(found.value()) : -1, model.seek(offset, data))
          << "step " << step << (data ? " data" : " hole") << " from " << offset;
    }
  };
  for (int step = 0; step < steps; ++step) {
    const uint64_t kind = number(0, 99);
    if (kind < 40) {
      const uint64_t offset =
          number(0, 8) == 0 ? number(0, 60) * kBlock : number(0, model.bytes.size());
      std::string data(number(1, number(0, 3) ? 3000 : 40000), '\0');
      const bool plain = number(0, 3) != 0;
      for (auto& c : data) c = static_cast<char>(plain ? 'a' + step % 26 : number(0, 255));
      auto written = io_->write(inode, offset, as_bytes(data), false);
      ASSERT_TRUE(written) << written.error().message();
      model.write(offset, data);
    } else if (kind < 50) {
      const uint64_t size = number(0, model.bytes.size() + 5000);
      ASSERT_TRUE(io_->truncate(inode, size));
      model.truncate(size);
    } else if (kind < 58) {
      (void)io_->start_flush(inode, FileIo::Take::everything, Urgency::batch, false);
    } else if (kind < 63) {
      flush_in_time(inode);
    } else if (kind < 80) {
      expect_same_blocks(step);
    } else {
      const uint64_t offset = number(0, model.bytes.size());
      const size_t size = number(1, 30000);
      ASSERT_EQ(read_in_time(inode, offset, size), model.bytes.substr(offset, size))
          << "step " << step;
    }
    if (HasFatalFailure()) return;
  }
  flush_in_time(inode);
  expect_same_blocks(steps);
  ASSERT_EQ(inode->stored.blocks_mapped, model.blocks.size()) << "as the daemon and other mounts";
  ASSERT_EQ(read_in_time(inode, 0, model.bytes.size() + 1), model.bytes);
  EXPECT_EQ(inode->losses, 0u);
}

TEST_P(FileIoTest, RandomOperationsMatchAPlainFile) {
  Seeded seed;
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([this, t, s = seed.number(0, UINT64_MAX)] {
      const InodePtr inode = open_new("file" + std::to_string(t));
      play(inode, s, 400);
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(daemon_->check(), ::testing::IsEmpty());
}

TEST_P(FileIoTest, SitesComeAndGoAndCommitsFail) {
  Seeded seed;
  daemon_->fail_every_commit = 7;
  std::atomic<bool> stop{false};
  std::thread weather([&, s = seed.number(0, UINT64_MAX)] {
    std::mt19937_64 random(s);
    while (!stop) {
      const size_t a = random() % 5, b = random() % 5;
      controls_[a].set_away(true);
      controls_[b].set_away(true);
      std::this_thread::sleep_for(milliseconds(30));
      controls_[a].set_away(false);
      controls_[b].set_away(false);
      std::this_thread::sleep_for(milliseconds(random() % 60));
    }
  });
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([this, t, s = seed.number(0, UINT64_MAX)] {
      const InodePtr inode = open_new("file" + std::to_string(t));
      play(inode, s, 200);
    });
  }
  for (auto& thread : threads) thread.join();
  stop = true;
  weather.join();
  EXPECT_THAT(daemon_->check(), ::testing::IsEmpty());
}

// Nobody else changes the files: whatever the session's end met half way is written all the same.
TEST_P(FileIoTest, SessionsEndAndNothingIsLost) {
  Seeded seed;
  daemon_->lose_session_every_commit = 5;
  std::atomic<bool> stop{false};
  std::thread thief([&, s = seed.number(0, UINT64_MAX)] {
    std::mt19937_64 random(s);
    while (!stop) {
      std::this_thread::sleep_for(milliseconds(random() % 20));
      daemon_->end_session();
    }
  });
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([this, t, s = seed.number(0, UINT64_MAX)] {
      const InodePtr inode = open_new("file" + std::to_string(t));
      play(inode, s, 300);
    });
  }
  for (auto& thread : threads) thread.join();
  stop = true;
  thief.join();
  EXPECT_EQ(io_->data_losses(), 0u);
  EXPECT_THAT(daemon_->check(), ::testing::IsEmpty());
}

TEST_P(FileIoTest, WithoutQuorumFlushFailsAndNothingIsLost) {
  const InodePtr inode = open_new("file");
  const std::string before(10000, 'b'), after(20000, 'a');
  ASSERT_TRUE(io_->write(inode, 0, as_bytes(before), false));
  ASSERT_TRUE(io_->flush(inode, true));
  for (int i = 0; i < 3; ++i) controls_[i].set_away(true);
  ASSERT_TRUE(io_->write(inode, 8192, as_bytes(after), false));
  const auto refused = io_->flush(inode, true);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().errno_value(), EIO);
  EXPECT_THAT(refused.error().text(), ::testing::HasSubstr("site1"));
  EXPECT_EQ(read_all(inode, 8192, 20000), after) << "what was written stays readable here";
  for (int i = 0; i < 3; ++i) controls_[i].set_away(false);
  flush_in_time(inode);
  reader_->invalidate(inode->ino);
  EXPECT_EQ(read_all(inode, 0, 30000), before.substr(0, 8192) + after);
}

TEST_P(FileIoTest, TruncatedBytesNeverComeBack) {
  const InodePtr inode = open_new("file");
  ASSERT_TRUE(io_->write(inode, 0, as_bytes(std::string(3 * kBlock, 'x')), false));
  ASSERT_TRUE(io_->flush(inode, true));
  ASSERT_TRUE(io_->truncate(inode, kBlock + 10));
  ASSERT_TRUE(io_->truncate(inode, 3 * kBlock));
  const std::string expected = std::string(kBlock + 10, 'x') + std::string(2 * kBlock - 10, '\0');
  EXPECT_EQ(read_all(inode, 0, 3 * kBlock), expected);
  ASSERT_TRUE(io_->flush(inode, true));
  reader_->invalidate(inode->ino);
  EXPECT_EQ(read_all(inode, 0, 3 * kBlock), expected);
}

TEST_P(FileIoTest, BlocksJustWrittenAreChangedWithoutReadingThem) {
  if (GetParam() == 0) return;
  const InodePtr inode = open_new("file");
  std::string expected(3 * kBlock, 'x');
  ASSERT_TRUE(io_->write(inode, 0, as_bytes(expected), false));
  ASSERT_TRUE(io_->flush(inode, true));
  for (auto& control : controls_) control.set_away(true);
  for (const uint64_t at : {uint64_t{10}, uint64_t{2 * kBlock - 2}}) {  // inside one, across two
    ASSERT_TRUE(io_->write(inode, at, as_bytes("1234"), false));
    expected.replace(at, 4, "1234");
  }
  EXPECT_EQ(read_all(inode, 0, 3 * kBlock), expected);
  for (auto& control : controls_) control.set_away(false);
  flush_in_time(inode);
}

INSTANTIATE_TEST_SUITE_P(CacheBytes, FileIoTest, ::testing::Values(0, 2 << 20));

}  // namespace
}  // namespace datacloud
