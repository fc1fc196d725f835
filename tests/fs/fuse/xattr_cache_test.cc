// Answers about extended attributes that a mount keeps: none that a change may have overtaken, none
// of another session, not too many.
#include "fs/fuse/xattr_cache.h"

#include <gtest/gtest.h>

#include <string>

namespace datacloud {
namespace {

constexpr InodeId kFile = 5;

std::string found(const XattrCache& cache, const std::string& name, uint64_t session = 1,
                  InodeId ino = kFile) {
  const auto known = cache.find(ino, name, session);
  if (!known) return "unknown";
  return known->value.value_or("absent");
}

TEST(XattrCache, KeepsValuesAndThatThereAreNone) {
  XattrCache cache;
  EXPECT_EQ(found(cache, "a"), "unknown");
  cache.keep(cache.begin(), kFile, "a", 1, {"value"});
  cache.keep(cache.begin(), kFile, "b", 1, {});
  EXPECT_EQ(found(cache, "a"), "value");
  EXPECT_EQ(found(cache, "b"), "absent");
  EXPECT_EQ(found(cache, "c"), "unknown");
  EXPECT_EQ(found(cache, "a", 1, kFile + 1), "unknown");
  EXPECT_GT(cache.bytes(), 0u);
  cache.forget(kFile);
  EXPECT_EQ(found(cache, "a"), "unknown");
  EXPECT_EQ(found(cache, "b"), "unknown");
  EXPECT_EQ(cache.bytes(), 0u);
}

TEST(XattrCache, AnAnswerThatAChangeMayHaveOvertakenIsNotKept) {
  XattrCache cache;
  const uint64_t begun = cache.begin();
  cache.forget(kFile);
  cache.keep(begun, kFile, "a", 1, {"old"});
  EXPECT_EQ(found(cache, "a"), "unknown");
  cache.keep(cache.begin(), kFile, "a", 1, {"new"});
  EXPECT_EQ(found(cache, "a"), "new");
}

TEST(XattrCache, AnotherSessionFindsNothing) {
  XattrCache cache;
  cache.keep(cache.begin(), kFile, "a", 1, {"value"});
  cache.keep(cache.begin(), kFile, "b", 1, {});
  EXPECT_EQ(found(cache, "a", 2), "unknown");
  cache.keep(cache.begin(), kFile, "a", 2, {"later"});
  EXPECT_EQ(found(cache, "a", 2), "later");
  EXPECT_EQ(found(cache, "b", 2), "unknown") << "of the session before";
}

TEST(XattrCache, IsBounded) {
  XattrCache cache;
  const std::string large(XattrCache::kValueBytesMax, 'v');
  for (InodeId ino = 1; ino <= 5000; ++ino) {
    cache.keep(cache.begin(), ino, "large", 1, {large});
    cache.keep(cache.begin(), ino, "absent", 1, {});
    cache.keep(cache.begin(), ino, "absent", 1, {});
    ASSERT_LE(cache.bytes(), XattrCache::kBytesMax);
    ASSERT_EQ(found(cache, "absent", 1, ino), "absent");
  }
  cache.keep(cache.begin(), 1, "too large", 1, {large + "v"});
  EXPECT_EQ(found(cache, "too large", 1, 1), "unknown");
  for (InodeId ino = 1; ino <= 5000; ++ino) cache.forget(ino);
  EXPECT_EQ(cache.bytes(), 0u);
}

}  // namespace
}  // namespace datacloud
