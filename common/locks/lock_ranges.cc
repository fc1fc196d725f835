// Conflicts, splitting and joining of ranges.
#include "common/locks/lock_ranges.h"

#include <algorithm>

namespace datacloud {
namespace {

bool excludes(const FileLock& held, const FileLock& wanted) {
  if (held.owner == wanted.owner) return false;
  if (held.type != LockType::write && wanted.type != LockType::write) return false;
  return wanted.whole || held.overlaps(wanted);
}

template <class Predicate>
void erase_from(std::vector<FileLock>& ranges, std::vector<FileLock>& wholes, Predicate gone) {
  std::erase_if(ranges, gone);
  std::erase_if(wholes, gone);
}

}  // namespace

result<FileLock> lock_from(const pb::HeldLock& record, SessionId session) {
  if (record.type() > static_cast<uint32_t>(LockType::none))
    return failure(Errc::invalid, "a lock of an unknown type");
  FileLock lock;
  lock.owner = {session, record.owner()};
  lock.whole = record.whole();
  lock.type = static_cast<LockType>(record.type());
  lock.pid = record.pid();
  if (lock.whole) return lock;
  lock.start = record.start();
  lock.end = record.end();
  if (lock.start > lock.end || lock.end > kLockEndMax)
    return failure(Errc::invalid, "a lock of an impossible range");
  return lock;
}

void put_lock(pb::HeldLock& record, InodeId ino, const FileLock& lock) {
  record.set_ino(ino);
  record.set_owner(lock.owner.number);
  record.set_whole(lock.whole);
  record.set_start(lock.start);
  record.set_end(lock.end);
  record.set_type(static_cast<uint32_t>(lock.type));
  record.set_pid(lock.pid);
}

void LockRanges::each_conflict(const FileLock& wanted,
                               const std::function<void(const FileLock&)>& f) const {
  for (const auto& held : wanted.whole ? wholes_ : ranges_)
    if (excludes(held, wanted)) f(held);
}

const FileLock* LockRanges::conflict(const FileLock& wanted) const {
  const auto& all = wanted.whole ? wholes_ : ranges_;
  const auto it = std::find_if(all.begin(), all.end(),
                               [&](const FileLock& held) { return excludes(held, wanted); });
  return it == all.end() ? nullptr : &*it;
}

void LockRanges::set(const FileLock& lock) {
  if (lock.whole) {
    std::erase_if(wholes_, [&](const FileLock& held) { return held.owner == lock.owner; });
    if (lock.type != LockType::none) wholes_.push_back(lock);
    return;
  }
  FileLock joined = lock;
  std::vector<FileLock> pieces;  // what remains of the owner's ranges that are cut
  std::erase_if(ranges_, [&](const FileLock& held) {
    if (held.owner != lock.owner) return false;
    const bool touches = (held.end != kLockEndMax && held.end + 1 == lock.start) ||
                         (lock.end != kLockEndMax && lock.end + 1 == held.start);
    if (held.type == lock.type && (touches || held.overlaps(lock))) {
      joined.start = std::min(joined.start, held.start);
      joined.end = std::max(joined.end, held.end);
      return true;
    }
    if (!held.overlaps(lock)) return false;
    if (held.start < lock.start) {
      pieces.push_back(held);
      pieces.back().end = lock.start - 1;
    }
    if (held.end > lock.end) {
      pieces.push_back(held);
      pieces.back().start = lock.end + 1;
    }
    return true;
  });
  if (lock.type != LockType::none) pieces.push_back(joined);
  for (const auto& piece : pieces) {
    const auto at =
        std::upper_bound(ranges_.begin(), ranges_.end(), piece,
                         [](const FileLock& a, const FileLock& b) { return a.start < b.start; });
    ranges_.insert(at, piece);
  }
}

void LockRanges::drop_owner(const LockOwner& owner) {
  erase_from(ranges_, wholes_, [&](const FileLock& held) { return held.owner == owner; });
}

void LockRanges::drop_session(SessionId session) {
  erase_from(ranges_, wholes_, [&](const FileLock& held) { return held.owner.session == session; });
}

bool LockRanges::holds(const LockOwner& owner) const {
  const auto is = [&](const FileLock& held) { return held.owner == owner; };
  return std::any_of(ranges_.begin(), ranges_.end(), is) ||
         std::any_of(wholes_.begin(), wholes_.end(), is);
}

LockType LockRanges::whole_of(const LockOwner& owner) const {
  for (const auto& held : wholes_)
    if (held.owner == owner) return held.type;
  return LockType::none;
}

size_t LockRanges::count_of(SessionId session) const {
  size_t count = 0;
  each([&](const FileLock& held) { count += held.owner.session == session; });
  return count;
}

void LockRanges::each(const std::function<void(const FileLock&)>& f) const {
  for (const auto& held : ranges_) f(held);
  for (const auto& held : wholes_) f(held);
}

}  // namespace datacloud
