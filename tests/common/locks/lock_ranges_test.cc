// Ranges of locks: what conflicts, what is cut and joined.
#include "common/locks/lock_ranges.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace datacloud {
namespace {

constexpr LockOwner A{1, 10}, B{1, 11}, C{2, 10};

FileLock range(LockOwner owner, LockType type, uint64_t start, uint64_t end) {
  return {owner, false, start, end, type, 0};
}
FileLock whole(LockOwner owner, LockType type) { return {owner, true, 0, kLockEndMax, type, 0}; }
std::vector<FileLock> all(const LockRanges& locks) {
  std::vector<FileLock> out;
  locks.each([&](const FileLock& lock) { out.push_back(lock); });
  return out;
}

TEST(LockRangesTest, WritersExcludeAndReadersShare) {
  LockRanges locks;
  locks.set(range(A, LockType::read, 0, 9));
  EXPECT_EQ(locks.conflict(range(B, LockType::read, 0, 9)), nullptr);
  EXPECT_NE(locks.conflict(range(B, LockType::write, 9, 20)), nullptr);
  EXPECT_EQ(locks.conflict(range(B, LockType::write, 10, 20)), nullptr);
  EXPECT_EQ(locks.conflict(range(A, LockType::write, 0, 9)), nullptr) << "its own";
  EXPECT_NE(locks.conflict(range(C, LockType::write, 0, 0)), nullptr)
      << "the same number of another session is another owner";
}

TEST(LockRangesTest, TheTwoKindsDoNotSeeEachOther) {
  LockRanges locks;
  locks.set(whole(A, LockType::write));
  EXPECT_EQ(locks.conflict(range(B, LockType::write, 0, kLockEndMax)), nullptr);
  EXPECT_NE(locks.conflict(whole(B, LockType::read)), nullptr);
}

TEST(LockRangesTest, RangesAreCutAndJoined) {
  LockRanges locks;
  locks.set(range(A, LockType::write, 0, 99));
  locks.set(range(A, LockType::none, 40, 49));
  EXPECT_THAT(all(locks), testing::ElementsAre(range(A, LockType::write, 0, 39),
                                               range(A, LockType::write, 50, 99)));
  locks.set(range(A, LockType::read, 30, 59));
  EXPECT_THAT(all(locks), testing::ElementsAre(range(A, LockType::write, 0, 29),
                                               range(A, LockType::read, 30, 59),
                                               range(A, LockType::write, 60, 99)));
  locks.set(range(A, LockType::write, 30, 59));
  EXPECT_THAT(all(locks), testing::ElementsAre(range(A, LockType::write, 0, 99)));
  locks.set(range(A, LockType::write, 100, kLockEndMax));
  EXPECT_THAT(all(locks), testing::ElementsAre(range(A, LockType::write, 0, kLockEndMax)));
  locks.set(range(A, LockType::none, 0, kLockEndMax));
  EXPECT_TRUE(locks.empty());
}

TEST(LockRangesTest, OwnersAndSessionsAreDropped) {
  LockRanges locks;
  locks.set(range(A, LockType::read, 0, 9));
  locks.set(range(B, LockType::read, 5, 9));
  locks.set(whole(A, LockType::read));
  locks.set(whole(C, LockType::read));
  EXPECT_EQ(locks.count_of(1), 3u);
  locks.drop_owner(A);
  EXPECT_FALSE(locks.holds(A));
  EXPECT_TRUE(locks.holds(B));
  locks.drop_session(2);
  EXPECT_EQ(locks.size(), 1u);
}

TEST(LockRangesTest, WhatAPeerSendsIsChecked) {
  pb::HeldLock record;
  put_lock(record, 7, range(A, LockType::write, 3, 9));
  EXPECT_EQ(lock_from(record, 1).value(), range(A, LockType::write, 3, 9));
  record.set_type(3);
  EXPECT_FALSE(lock_from(record, 1));
  record.set_type(1);
  record.set_start(10);
  EXPECT_FALSE(lock_from(record, 1)) << "ends before it starts";
  record.set_end(UINT64_MAX);
  EXPECT_FALSE(lock_from(record, 1)) << "beyond what an offset can be";
}

}  // namespace
}  // namespace datacloud
