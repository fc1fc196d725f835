// Times of files, between timespec and the two forms of records and requests: nanoseconds since
// 1970 in 64 bits (`*_ns`, 1677 to 2262), and a Time for what these cannot hold (feature "times").
// Nothing else looks at either form.
//
// Writing: a time is in one form only, in `*_ns` when that can hold it; so a cloud without the
// feature never has a Time. Reading: a Time that can be one is the time, whatever `*_ns` says;
// otherwise `*_ns` is. Records where that makes a difference are damaged, and fsck mends them so
// that they say what was read before (daemon/fsck/inode_times.h).
#pragma once

#include <algorithm>
#include <compare>
#include <cstdint>
#include <string>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/proto/records.pb.h"

namespace datacloud {

// Since 1970; `nanos` counts forward from there and is below kNsPerSecond.
struct FileTime {
  int64_t seconds = 0;
  uint32_t nanos = 0;
  auto operator<=>(const FileTime&) const = default;
};

// What ext4 holds with inodes of 256 bytes (fs/ext4/ext4.h, EXT4_EXTRA_TIMESTAMP_MAX).
inline constexpr int64_t kFileSecondsMin = -(int64_t{1} << 31);  // 1901-12-13 20:45:52 UTC
inline constexpr int64_t kFileSecondsMax = (int64_t{1} << 34) - 1 + kFileSecondsMin;
// 2446-05-10 22:38:55 UTC

// Whether the cloud has the feature "times".
enum class TimeRange { narrow, wide };

constexpr FileTime from_ns(int64_t ns) {
  const timespec time = to_timespec(ns);
  return {time.tv_sec, static_cast<uint32_t>(time.tv_nsec)};
}

constexpr bool fits_ns(const FileTime& time) {
  return time >= from_ns(INT64_MIN) && time <= from_ns(INT64_MAX);
}

// Of a time that does not fit the last whole second that does, as without the feature.
constexpr int64_t to_ns(const FileTime& time) {
  if (!fits_ns(time)) return wall_ns(time.seconds, time.nanos);
  if (time.seconds >= 0) return time.seconds * kNsPerSecond + time.nanos;
  return (time.seconds + 1) * kNsPerSecond + (static_cast<int64_t>(time.nanos) - kNsPerSecond);
}

constexpr timespec to_timespec(const FileTime& time) {
  timespec out{};
  out.tv_sec = time.seconds;
  out.tv_nsec = time.nanos;
  return out;
}

// What is kept of a time that a program gives: beyond the range its last whole second, as file
// systems do (timestamp_truncate in the kernel).
constexpr FileTime kept_time(const timespec& given, TimeRange range) {
  if (range == TimeRange::narrow) return from_ns(wall_ns(given.tv_sec, given.tv_nsec));
  const int64_t seconds = std::clamp<int64_t>(given.tv_sec, kFileSecondsMin, kFileSecondsMax);
  const bool at_end = seconds == kFileSecondsMin || seconds == kFileSecondsMax;
  return {seconds, at_end ? 0 : static_cast<uint32_t>(given.tv_nsec)};
}

// The same of a time that was kept under another range: a cloud can lose the feature only when an
// older copy of its records is restored.
constexpr FileTime kept_time(const FileTime& time, TimeRange range) {
  return range == TimeRange::wide ? time : from_ns(to_ns(time));
}

// --- Records and requests -------------------------------------------------------------------

inline bool can_be_time(const pb::Time& time) {
  return time.nanos() < kNsPerSecond && time.seconds() >= kFileSecondsMin &&
         time.seconds() <= kFileSecondsMax;
}

inline FileTime read_time(bool has_time, const pb::Time& time, int64_t ns) {
  return has_time && can_be_time(time) ? FileTime{time.seconds(), time.nanos()} : from_ns(ns);
}

inline void fill_time(pb::Time& record, const FileTime& time) {
  record.set_seconds(time.seconds);
  record.set_nanos(time.nanos);
}

inline FileTime atime_of(const pb::Inode& inode) {
  return read_time(inode.has_atime(), inode.atime(), inode.atime_ns());
}
inline FileTime mtime_of(const pb::Inode& inode) {
  return read_time(inode.has_mtime(), inode.mtime(), inode.mtime_ns());
}
inline FileTime ctime_of(const pb::Inode& inode) {
  return read_time(inode.has_ctime(), inode.ctime(), inode.ctime_ns());
}

// Of an Inode or a SetAttrRequest.
template <class Message>
void set_atime(Message& message, const FileTime& time) {
  message.clear_atime_ns();
  message.clear_atime();
  fits_ns(time) ? message.set_atime_ns(to_ns(time)) : fill_time(*message.mutable_atime(), time);
}

// Of an Inode, a SetAttrRequest or an InodeUpdate.
template <class Message>
void set_mtime(Message& message, const FileTime& time) {
  message.clear_mtime_ns();
  message.clear_mtime();
  fits_ns(time) ? message.set_mtime_ns(to_ns(time)) : fill_time(*message.mutable_mtime(), time);
}

// The clock's, which is kept in nanoseconds.
inline void set_ctime(pb::Inode& inode, const FileTime& time) {
  inode.clear_ctime_ns();
  inode.clear_ctime();
  fits_ns(time) ? inode.set_ctime_ns(to_ns(time)) : fill_time(*inode.mutable_ctime(), time);
}

// A time in a request: invalid when it is in both forms, when a Time is none that `*_ns` could not
// hold, and when the cloud has no Times.
inline result<void> check_sent_time(bool has_time, const pb::Time& time, bool has_ns,
                                    TimeRange range) {
  if (!has_time) return success();
  if (range == TimeRange::narrow) {
    return failure(
        Errc::invalid,
        "a time beyond 2262, which the cloud does not hold without its feature \"times\"");
  }
  if (has_ns || !can_be_time(time) || fits_ns({time.seconds(), time.nanos()})) {
    return failure(Errc::invalid, "a time of " + std::to_string(time.seconds()) + " s " +
                                      std::to_string(time.nanos()) +
                                      " ns, which is none or is to be sent in nanoseconds");
  }
  return success();
}

// Applies the times of a SetAttrRequest or an InodeUpdate that were checked so.
template <class Message>
void take_mtime(const Message& sent, pb::Inode& inode) {
  if (sent.has_mtime() || sent.has_mtime_ns()) {
    set_mtime(inode, read_time(sent.has_mtime(), sent.mtime(), sent.mtime_ns()));
  }
}
template <class Message>
void take_atime(const Message& sent, pb::Inode& inode) {
  if (sent.has_atime() || sent.has_atime_ns()) {
    set_atime(inode, read_time(sent.has_atime(), sent.atime(), sent.atime_ns()));
  }
}

}  // namespace datacloud
