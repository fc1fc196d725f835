// What df is told while the daemon is away: the numbers of what it asks about, or the cloud's.
#include "fs/fuse/last_known_space.h"

#include <gtest/gtest.h>

namespace datacloud {
namespace {

pb::StatFsReply with_inodes(uint64_t inodes) {
  pb::StatFsReply reply;
  reply.set_inodes(inodes);
  return reply;
}

TEST(LastKnownSpace, NumbersOfATreeAreToldForItAlone) {
  LastKnownSpace space;
  EXPECT_FALSE(space.last(7));
  space.remember(7, with_inodes(70));
  EXPECT_FALSE(space.last(kRootInode));
  EXPECT_FALSE(space.last(8));
  space.remember(kRootInode, with_inodes(1000));
  EXPECT_EQ(space.last(7)->inodes(), 70u);
  EXPECT_EQ(space.last(8)->inodes(), 1000u);
  space.remember(7, with_inodes(71));
  EXPECT_EQ(space.last(7)->inodes(), 71u);
}

TEST(LastKnownSpace, IsBoundedAndKeepsTheRoot) {
  LastKnownSpace space;
  space.remember(kRootInode, with_inodes(1000));
  for (uint64_t ino = 2; ino < 1000; ++ino) space.remember(ino, with_inodes(ino));
  size_t kept = 0;
  for (uint64_t ino = 2; ino < 1000; ++ino) kept += space.last(ino)->inodes() == ino;
  EXPECT_EQ(kept, LastKnownSpace::inodes_max);
  EXPECT_EQ(space.last(999)->inodes(), 999u);
  EXPECT_EQ(space.last(kRootInode)->inodes(), 1000u);
}

}  // namespace
}  // namespace datacloud
