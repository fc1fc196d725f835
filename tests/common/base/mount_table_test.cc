// Reading the kernel's list of mounts.
#include "common/base/mount_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace datacloud {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

TEST(MountTable, ReadsEveryField) {
  const auto table = parse_mount_table(
      "36 35 98:0 / / rw,noatime - ext4 /dev/root rw\n"
      "garbage\n"
      "40 36 0:61 /sub /data\\040cloud rw,nosuid shared:5 master:1 - fuse.datacloud /etc/a\\134b "
      "rw,sync,user_id=0\n");
  ASSERT_THAT(table, SizeIs(2));
  EXPECT_FALSE(table[0].is_data_cloud());
  const auto& ours = table[1];
  EXPECT_TRUE(ours.is_data_cloud());
  EXPECT_EQ(ours.device, "0:61");
  EXPECT_EQ(ours.root, "/sub");
  EXPECT_EQ(ours.point, "/data cloud");
  EXPECT_EQ(ours.source, "/etc/a\\b");
  EXPECT_TRUE(ours.has_option("nosuid"));
  EXPECT_TRUE(ours.has_option("sync"));
  EXPECT_FALSE(ours.has_option("user_id"));
  EXPECT_FALSE(ours.has_option("suid"));
}

TEST(MountTable, LeavesOutWhatIsNotInTheFormat) {
  EXPECT_THAT(parse_mount_table(""), IsEmpty());
  EXPECT_THAT(parse_mount_table("36 35 98:0 / /\n36 35 98:0 / / rw -\n"), IsEmpty());
  // An escape that is cut short, or is none, stays as it is.
  EXPECT_EQ(parse_mount_table("1 2 3:4 / /a\\04 rw - t s o\n").at(0).point, "/a\\04");
  EXPECT_EQ(parse_mount_table("1 2 3:4 / /a\\0x9 rw - t s o\n").at(0).point, "/a\\0x9");
}

TEST(MountTable, OfThisProcessHasARoot) {
  bool root = false;
  for (const auto& entry : read_mount_table()) root = root || entry.point == "/";
  EXPECT_TRUE(root);
}

}  // namespace
}  // namespace datacloud
