// Times that are set while a file has writes not committed yet: they go with these, in either form,
// and come back with the daemon's attributes.
#include "common/proto/file_time.h"
#include "tests/fs/file/file_rig.h"

namespace datacloud {
namespace {

constexpr FileTime kYear2300{10'413'792'000, 5};
constexpr FileTime kLastNarrow{9'223'372'036, 0};

class FileTimesTest : public FileRig, public testing::Test {
 protected:
  FileTimesTest() : FileRig(8 << 20) {}

  void write(const InodePtr& inode, const std::string& text) {
    const auto written = io_->write(inode, 0, as_bytes(text), false);
    ASSERT_TRUE(written) << written.error().message();
  }
  // What the daemon says, and what is shown here with that.
  pb::Inode stored(const InodePtr& inode) {
    pb::Request request;
    request.mutable_lease()->set_ino(inode->ino);
    request.mutable_lease()->set_mode(pb::LEASE_READ);
    const auto answer = metadata_->call(std::move(request));
    EXPECT_TRUE(answer);
    return answer.value().reply.attr().inode();
  }
  FileTime shown(const InodePtr& inode) {
    std::lock_guard lock(inode->mutex);
    return mtime_of(inode->attr);
  }
};

TEST_F(FileTimesTest, GoWithTheWritesBeforeThem) {
  const auto inode = open_new("f");
  EXPECT_FALSE(io_->set_mtime_if_changed(inode, kYear2300)) << "nothing is uncommitted";
  write(inode, "some data");
  ASSERT_TRUE(io_->set_mtime_if_changed(inode, kYear2300));
  EXPECT_EQ(shown(inode), kYear2300);
  EXPECT_EQ(mtime_of(stored(inode)).seconds / 1'000'000'000, 1) << "not committed yet: now";
  EXPECT_EQ(shown(inode), kYear2300) << "and the daemon's older one does not come back";
  flush_in_time(inode);
  EXPECT_EQ(mtime_of(stored(inode)), kYear2300);
  EXPECT_FALSE(stored(inode).has_ctime()) << "of the clock";
  EXPECT_EQ(shown(inode), kYear2300);
  write(inode, "later data");
  EXPECT_LT(shown(inode), kYear2300) << "writing sets it to now";
  flush_in_time(inode);
  EXPECT_FALSE(stored(inode).has_mtime());
  EXPECT_EQ(mtime_of(stored(inode)), shown(inode));
}

// Also when the daemon is then one that knows nothing of them: the data must not wait for ever.
TEST_F(FileTimesTest, ACloudThatDoesNotHoldThemAnyMoreGetsTheLastOneItDoes) {
  const auto inode = open_new("f");
  write(inode, "some data");
  ASSERT_TRUE(io_->set_mtime_if_changed(inode, kYear2300));
  time_range_ = TimeRange::narrow;
  flush_in_time(inode);
  EXPECT_FALSE(stored(inode).has_mtime());
  EXPECT_EQ(mtime_of(stored(inode)), kLastNarrow);
}

TEST_F(FileTimesTest, GivenUpWritesGiveUpTheirTime) {
  const auto inode = open_new("f");
  write(inode, "some data");
  ASSERT_TRUE(io_->set_mtime_if_changed(inode, kYear2300));
  flush_in_time(inode);
  write(inode, "other data");
  ASSERT_TRUE(io_->set_mtime_if_changed(inode, {5, 0}));
  EXPECT_TRUE(io_->give_up(inode, ENOSPC));
  EXPECT_EQ(shown(inode), kYear2300);
}

}  // namespace
}  // namespace datacloud
