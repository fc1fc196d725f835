// The advisory locks of one file: byte ranges of fcntl(2), POSIX and OFD, and whole files of
// flock(2).
//
// Pure: who may have what, nothing about who waits. The two kinds do not see each other, as on
// Linux. Invariants: ranges of one owner do not overlap, and neighbours of one type are one range;
// a write lock overlaps no other owner's lock of its kind. Operations take time in proportion to
// the locks of the file.
//
// Thread safety: none; the owner locks.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "common/base/ids.h"
#include "common/proto/rpc.pb.h"

namespace datacloud {

enum class LockType : uint32_t { read = 0, write = 1, none = 2 };  // F_RDLCK, F_WRLCK, F_UNLCK

inline constexpr uint64_t kLockEndMax =
    INT64_MAX;  // "to the end of the file", as the kernel has it

// An owner is a number of its session: a process (POSIX) or an open file (OFD, flock).
struct LockOwner {
  SessionId session = 0;
  uint64_t number = 0;
  friend auto operator<=>(const LockOwner&, const LockOwner&) = default;
};

struct FileLock {
  LockOwner owner;
  bool whole = false;  // of flock(2); start and end do not count
  uint64_t start = 0;
  uint64_t end = kLockEndMax;  // the last byte
  LockType type = LockType::read;
  uint32_t pid = 0;

  bool overlaps(const FileLock& other) const { return start <= other.end && other.start <= end; }
  friend bool operator==(const FileLock&, const FileLock&) = default;
};

// invalid: not a lock. `session` is whose the lock shall be.
result<FileLock> lock_from(const pb::HeldLock&, SessionId session);
void put_lock(pb::HeldLock&, InodeId, const FileLock&);

class LockRanges {
 public:
  // Another owner's lock that excludes this one; null when there is none. The lowest range.
  const FileLock* conflict(const FileLock& wanted) const;
  void each_conflict(const FileLock& wanted, const std::function<void(const FileLock&)>&) const;
  // The owner's locks in the range become this one (none: are given up). Conflicts are the caller's
  // affair.
  void set(const FileLock&);
  void drop_owner(const LockOwner&);
  void drop_session(SessionId);
  bool holds(const LockOwner&) const;
  // What the owner holds of flock(2).
  LockType whole_of(const LockOwner&) const;

  bool empty() const { return ranges_.empty() && wholes_.empty(); }
  size_t size() const { return ranges_.size() + wholes_.size(); }
  size_t count_of(SessionId) const;
  void each(const std::function<void(const FileLock&)>&) const;

 private:
  std::vector<FileLock> ranges_;  // by start
  std::vector<FileLock> wholes_;
};

}  // namespace datacloud
