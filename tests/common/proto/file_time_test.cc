// Times of files in their two forms, around where one form ends and where both do.
#include "common/proto/file_time.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "common/base/hex.h"
#include "common/proto/rpc.pb.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

__extension__ typedef __int128 Wide;
constexpr int64_t kInt64Max = std::numeric_limits<int64_t>::max();
constexpr int64_t kInt64Min = std::numeric_limits<int64_t>::min();
constexpr FileTime kNsLast{9'223'372'036, 854'775'807};
constexpr FileTime kNsFirst{-9'223'372'037, 145'224'192};

Wide exact(const FileTime& time) {
  return static_cast<Wide>(time.seconds) * kNsPerSecond + time.nanos;
}

timespec given(int64_t seconds, int64_t nanoseconds) {
  timespec time{};
  time.tv_sec = seconds;
  time.tv_nsec = nanoseconds;
  return time;
}

FileTime next(FileTime time) {
  return ++time.nanos == kNsPerSecond ? FileTime{time.seconds + 1, 0} : time;
}
FileTime before(FileTime time) {
  if (time.nanos == 0) return {time.seconds - 1, kNsPerSecond - 1};
  --time.nanos;
  return time;
}

// All over 64 bits, and closely around every border.
FileTime some_time(Seeded& random) {
  constexpr int64_t kBorders[] = {0, kNsLast.seconds, kNsFirst.seconds, kFileSecondsMin,
                                  kFileSecondsMax};
  const auto nanos = random.number(0, 3) == 0
                         ? static_cast<uint32_t>(random.number(0, 1) * (kNsPerSecond - 1))
                         : static_cast<uint32_t>(random.number(0, kNsPerSecond - 1));
  if (random.number(0, 4) == 0) return {static_cast<int64_t>(random.engine()()), nanos};
  return {kBorders[random.number(0, 4)] + static_cast<int64_t>(random.number(0, 4)) - 2, nanos};
}

TEST(FileTime, NanosecondsHoldWhat64BitsDo) {
  EXPECT_EQ(from_ns(kInt64Max), kNsLast);
  EXPECT_EQ(from_ns(kInt64Min), kNsFirst);
  EXPECT_TRUE(fits_ns(kNsLast));
  EXPECT_TRUE(fits_ns(kNsFirst));
  EXPECT_FALSE(fits_ns(next(kNsLast)));
  EXPECT_FALSE(fits_ns(before(kNsFirst)));
  EXPECT_EQ(to_ns(kNsLast), kInt64Max);
  EXPECT_EQ(to_ns(kNsFirst), kInt64Min);
  EXPECT_EQ(to_ns(next(kNsLast)), 9'223'372'036 * kNsPerSecond);
  EXPECT_EQ(to_ns(before(kNsFirst)), -9'223'372'036 * kNsPerSecond);
  Seeded random;
  for (int i = 0; i < 200'000; ++i) {
    const FileTime time = some_time(random);
    const bool fits = exact(time) >= kInt64Min && exact(time) <= kInt64Max;
    ASSERT_EQ(fits_ns(time), fits) << time.seconds << " s " << time.nanos << " ns";
    if (!fits) continue;
    ASSERT_TRUE(exact(time) == to_ns(time)) << time.seconds << " s " << time.nanos << " ns";
    ASSERT_EQ(from_ns(to_ns(time)), time);
  }
}

TEST(FileTime, WideIsWhatExt4Holds) {
  const auto kept = [](int64_t s, int64_t ns) { return kept_time(given(s, ns), TimeRange::wide); };
  EXPECT_EQ(kFileSecondsMin, -2'147'483'648);  // date -d @-2147483648: 1901-12-13 20:45:52
  EXPECT_EQ(kFileSecondsMax, 15'032'385'535);  // date -d @15032385535: 2446-05-10 22:38:55
  EXPECT_EQ(kept(kFileSecondsMax - 1, 999'999'999), (FileTime{kFileSecondsMax - 1, 999'999'999}));
  // The kernel's timestamp_truncate has no nanoseconds in the first and the last second.
  EXPECT_EQ(kept(kFileSecondsMax, 5), (FileTime{kFileSecondsMax, 0}));
  EXPECT_EQ(kept(kFileSecondsMin, 5), (FileTime{kFileSecondsMin, 0}));
  EXPECT_EQ(kept(kFileSecondsMin + 1, 5), (FileTime{kFileSecondsMin + 1, 5}));
  EXPECT_EQ(kept(kInt64Max, 5), (FileTime{kFileSecondsMax, 0}));
  EXPECT_EQ(kept(kInt64Min, 5), (FileTime{kFileSecondsMin, 0}));
}

TEST(FileTime, NarrowIsAsBefore) {
  Seeded random;
  for (int i = 0; i < 100'000; ++i) {
    const FileTime time = some_time(random);
    const auto kept = kept_time(given(time.seconds, time.nanos), TimeRange::narrow);
    ASSERT_EQ(to_ns(kept), wall_ns(time.seconds, time.nanos));
    ASSERT_TRUE(fits_ns(kept));
    ASSERT_EQ(kept_time(kept, TimeRange::narrow), kept);
  }
  EXPECT_EQ(kept_time(FileTime{10'413'792'000, 7}, TimeRange::narrow),
            (FileTime{9'223'372'036, 0}));
  EXPECT_EQ(kept_time(FileTime{10'413'792'000, 7}, TimeRange::wide), (FileTime{10'413'792'000, 7}));
}

TEST(FileTime, LaterTimesNeverBecomeEarlier) {
  Seeded random;
  for (const auto range : {TimeRange::narrow, TimeRange::wide}) {
    for (int i = 0; i < 100'000; ++i) {
      const FileTime a = some_time(random), b = some_time(random);
      const FileTime first = std::min(a, b), last = std::max(a, b);
      ASSERT_LE(kept_time(given(first.seconds, first.nanos), range),
                kept_time(given(last.seconds, last.nanos), range));
    }
  }
}

TEST(FileTime, IsInOneFormAndReadsAsWritten) {
  Seeded random;
  pb::Inode inode;
  for (int i = 0; i < 100'000; ++i) {
    const FileTime some = some_time(random);
    const FileTime time = kept_time(given(some.seconds, some.nanos), TimeRange::wide);
    set_atime(inode, time);
    set_mtime(inode, time);
    set_ctime(inode, time);
    ASSERT_EQ(inode.has_mtime(), !fits_ns(time));
    ASSERT_TRUE(fits_ns(time) || inode.mtime_ns() == 0);
    ASSERT_TRUE(inode.ParseFromString(inode.SerializeAsString()));
    ASSERT_EQ(atime_of(inode), time);
    ASSERT_EQ(mtime_of(inode), time);
    ASSERT_EQ(ctime_of(inode), time);
    const timespec shown = to_timespec(mtime_of(inode));
    ASSERT_EQ(shown.tv_sec, time.seconds);
    ASSERT_EQ(shown.tv_nsec, static_cast<long>(time.nanos));
  }
}

TEST(FileTime, IsTheDocumentedBytes) {
  pb::Inode inode;
  set_mtime(inode, {10'413'792'000, 5});
  EXPECT_EQ(to_hex(as_bytes(inode.SerializeAsString())),
            "b2010808"
            "80ecaecb4d"
            "1005");
}

TEST(FileTime, ATimeThatIsNoneCountsAsAbsent) {
  pb::Inode inode;
  inode.set_mtime_ns(-7);
  EXPECT_EQ(mtime_of(inode), (FileTime{-1, 999'999'993}));
  inode.mutable_mtime()->set_seconds(10'413'792'000);
  EXPECT_EQ(mtime_of(inode), (FileTime{10'413'792'000, 0})) << "of both forms this one is read";
  inode.mutable_mtime()->set_nanos(kNsPerSecond);
  EXPECT_EQ(mtime_of(inode), (FileTime{-1, 999'999'993}));
  inode.mutable_mtime()->set_nanos(0);
  inode.mutable_mtime()->set_seconds(kFileSecondsMax + 1);
  EXPECT_EQ(mtime_of(inode), (FileTime{-1, 999'999'993}));
}

TEST(FileTime, RequestsAreTakenAsChecked) {
  const auto refused = [](const pb::SetAttrRequest& sent, TimeRange range) {
    return !check_sent_time(sent.has_mtime(), sent.mtime(), sent.has_mtime_ns(), range);
  };
  pb::SetAttrRequest sent;
  EXPECT_FALSE(refused(sent, TimeRange::narrow));
  set_mtime(sent, {9'223'372'037, 3});
  EXPECT_TRUE(sent.has_mtime() && !sent.has_mtime_ns());
  EXPECT_TRUE(refused(sent, TimeRange::narrow));
  EXPECT_FALSE(refused(sent, TimeRange::wide));
  pb::Inode inode;
  inode.set_mtime_ns(5);
  take_atime(sent, inode);
  EXPECT_FALSE(inode.has_atime());
  take_mtime(sent, inode);
  EXPECT_EQ(mtime_of(inode), (FileTime{9'223'372'037, 3}));
  EXPECT_EQ(inode.mtime_ns(), 0);
  sent.set_mtime_ns(4);
  EXPECT_TRUE(refused(sent, TimeRange::wide)) << "in both forms";
  set_mtime(sent, {5, 0});
  EXPECT_TRUE(sent.has_mtime_ns() && !sent.has_mtime());
  EXPECT_FALSE(refused(sent, TimeRange::narrow));
  take_mtime(sent, inode);
  EXPECT_EQ(mtime_of(inode), (FileTime{5, 0}));
  EXPECT_FALSE(inode.has_mtime());
  sent.Clear();
  for (const auto& [seconds, nanos] :
       std::vector<std::pair<int64_t, uint32_t>>{{5, 0},
                                                 {9'223'372'036, 854'775'807},
                                                 {kFileSecondsMax + 1, 0},
                                                 {9'223'372'037, 1'000'000'000},
                                                 {kFileSecondsMin - 1, 0},
                                                 {kInt64Min, 0}}) {
    sent.mutable_mtime()->set_seconds(seconds);
    sent.mutable_mtime()->set_nanos(nanos);
    EXPECT_TRUE(refused(sent, TimeRange::wide)) << seconds << " s " << nanos << " ns";
  }
}

}  // namespace
}  // namespace datacloud
