// The data path of a mount without the kernel: random writes, truncates, reads and flushes of
// several files by several threads against plain byte strings, while sites come and go and
// commits fail. Everything below FileIo is real, the metadata code included.
#include "fs/file/file_io.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/fs/file/file_rig.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

// Once with a cache of blocks, and once without: everything then comes from the sites.
class FileIoTest : public FileRig, public ::testing::TestWithParam<uint64_t> {
 protected:
  FileIoTest() : FileRig(GetParam()) {}
};

using Reader = std::function<std::string(uint64_t offset, size_t size)>;

void flush_in_time(FileIo& io, const InodePtr& inode) {
  for (int tries = 0; !io.flush(inode, true); ++tries) {
    ASSERT_LT(tries, 300);
    std::this_thread::sleep_for(milliseconds(10));
  }
}

// One file, one thread, compared with a plain string on the way and at the end.
void play(FileIo& io, const Reader& read, const InodePtr& inode, uint64_t seed, int steps) {
  std::mt19937_64 random(seed);
  std::string model;
  const auto number = [&](uint64_t low, uint64_t high) {
    return std::uniform_int_distribution<uint64_t>(low, high)(random);
  };
  for (int step = 0; step < steps; ++step) {
    const uint64_t kind = number(0, 99);
    if (kind < 45) {
      const uint64_t offset = number(0, 40) == 0 ? number(0, 60) * kBlock : number(0, model.size());
      std::string data(number(1, number(0, 3) ? 3000 : 40000), '\0');
      const bool plain = number(0, 3) != 0;
      for (auto& c : data) c = static_cast<char>(plain ? 'a' + step % 26 : number(0, 255));
      auto written = io.write(inode, offset, as_bytes(data), false);
      ASSERT_TRUE(written) << written.error().message();
      if (model.size() < offset + data.size()) model.resize(offset + data.size());
      model.replace(offset, data.size(), data);
    } else if (kind < 55) {
      const uint64_t size = number(0, model.size() + 5000);
      ASSERT_TRUE(io.truncate(inode, size));
      model.resize(size);
    } else if (kind < 63) {
      (void)io.start_flush(inode, FileIo::Take::everything, Urgency::batch, false);
    } else if (kind < 68) {
      flush_in_time(io, inode);
    } else {
      const uint64_t offset = number(0, model.size());
      const size_t size = number(1, 30000);
      ASSERT_EQ(read(offset, size), model.substr(offset, size)) << "step " << step;
    }
  }
  flush_in_time(io, inode);
  ASSERT_EQ(read(0, model.size() + 1), model);
}

TEST_P(FileIoTest, RandomOperationsMatchAPlainFile) {
  Seeded seed;
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([this, t, s = seed.number(0, UINT64_MAX)] {
      const InodePtr inode = open_new("file" + std::to_string(t));
      play(
          *io_, [&](uint64_t o, size_t n) { return read_all(inode, o, n); }, inode, s, 400);
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
      play(
          *io_, [&](uint64_t o, size_t n) { return read_in_time(inode, o, n); }, inode, s, 200);
    });
  }
  for (auto& thread : threads) thread.join();
  stop = true;
  weather.join();
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
  flush_in_time(*io_, inode);
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
  flush_in_time(*io_, inode);
}

INSTANTIATE_TEST_SUITE_P(CacheBytes, FileIoTest, ::testing::Values(0, 2 << 20));

}  // namespace
}  // namespace datacloud
