// ACLs that a mount keeps: none that a change may have overtaken, none of another session, not too
// many.
#include "fs/fuse/acl_cache.h"

#include <gtest/gtest.h>

namespace datacloud {
namespace {

TEST(AclCache, KeepsBothKindsOfAnInode) {
  AclCache cache;
  EXPECT_FALSE(cache.find(5, AclKind::access, 1));
  cache.keep(cache.begin(), 5, AclKind::access, 1, "access");
  EXPECT_EQ(cache.find(5, AclKind::access, 1), "access");
  EXPECT_FALSE(cache.find(5, AclKind::defaulting, 1));
  cache.keep(cache.begin(), 5, AclKind::defaulting, 1, "default");
  EXPECT_EQ(cache.find(5, AclKind::access, 1), "access");
  EXPECT_EQ(cache.find(5, AclKind::defaulting, 1), "default");
  EXPECT_FALSE(cache.find(6, AclKind::access, 1));
  cache.forget(5);
  EXPECT_FALSE(cache.find(5, AclKind::access, 1));
  EXPECT_FALSE(cache.find(5, AclKind::defaulting, 1));
}

TEST(AclCache, AnAnswerThatAChangeMayHaveOvertakenIsNotKept) {
  AclCache cache;
  const uint64_t begun = cache.begin();
  cache.forget(5);
  cache.keep(begun, 5, AclKind::access, 1, "old");
  EXPECT_FALSE(cache.find(5, AclKind::access, 1));
  cache.keep(cache.begin(), 5, AclKind::access, 1, "new");
  EXPECT_EQ(cache.find(5, AclKind::access, 1), "new");
}

TEST(AclCache, AnotherSessionFindsNothing) {
  AclCache cache;
  cache.keep(cache.begin(), 5, AclKind::access, 1, "access");
  cache.keep(cache.begin(), 5, AclKind::defaulting, 1, "default");
  EXPECT_FALSE(cache.find(5, AclKind::access, 2));
  cache.keep(cache.begin(), 5, AclKind::access, 2, "later");
  EXPECT_EQ(cache.find(5, AclKind::access, 2), "later");
  EXPECT_FALSE(cache.find(5, AclKind::defaulting, 2)) << "of the session before";
}

TEST(AclCache, IsBounded) {
  AclCache cache;
  for (InodeId ino = 1; ino <= 10 * AclCache::kInodesMax; ++ino) {
    cache.keep(cache.begin(), ino, AclKind::access, 1, "acl");
    ASSERT_LE(cache.size(), AclCache::kInodesMax);
    ASSERT_TRUE(cache.find(ino, AclKind::access, 1));
  }
}

}  // namespace
}  // namespace datacloud
