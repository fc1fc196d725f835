// The lock table's rules.
#include "daemon/sessions/lock_table.h"

#include <algorithm>
#include <set>
#include <utility>

#include "common/base/check.h"

namespace datacloud {
namespace {

// A search that takes longer finds no circle: its owners then wait, as they would without it.
constexpr size_t kCircleStepsMax = 100'000;

}  // namespace

bool LockTable::delegate(SessionId session, InodeId ino) {
  const auto known = delegations_.find(ino);
  if (known != delegations_.end()) {
    return known->second.session == session && known->second.recall == 0;
  }
  if (files_.count(ino) > 0 || delegation_count_[session] >= limits_.per_session) return false;
  delegations_[ino].session = session;
  ++delegation_count_[session];
  return true;
}

bool LockTable::kept_here(SessionId session, InodeId ino) {
  const auto known = delegations_.find(ino);
  if (known == delegations_.end()) return true;
  if (known->second.session != session) return false;
  end_delegation(ino);
  return true;
}

void LockTable::when_kept(SessionId session, InodeId ino, uint64_t name, Continuation ready,
                          Continuation cancelled) {
  const auto known = delegations_.find(ino);
  if (known == delegations_.end()) return ready_.push_back(std::move(ready));
  Delegation& delegation = known->second;
  delegation.askers.push_back({session, name, std::move(ready), std::move(cancelled)});
  if (delegation.recall != 0) return;
  const Recall recall{++last_recall_, delegation.session, ino};
  delegation.recall = recall.id;
  in_flight_[recall.id] = recall;
  outbox_.push_back(recall);
}

// Whoever waited for it goes on in the order of arrival.
void LockTable::end_delegation(InodeId ino) {
  const auto known = delegations_.find(ino);
  in_flight_.erase(known->second.recall);
  std::erase_if(outbox_, [&](const Recall& r) { return r.id == known->second.recall; });
  const auto count = delegation_count_.find(known->second.session);
  if (--count->second == 0) delegation_count_.erase(count);
  for (auto& asker : known->second.askers) ready_.push_back(std::move(asker.ready));
  delegations_.erase(known);
}

// False: there is no room for it.
bool LockTable::set(File& file, const FileLock& lock, bool bounded) {
  const SessionId session = lock.owner.session;
  size_t& count = lock_count_[session];
  // Cutting another range in two makes one more.
  if (bounded && lock.type != LockType::none &&
      (file.held.size() + 2 > limits_.per_file || count + 2 > limits_.per_session)) {
    if (count == 0) lock_count_.erase(session);
    return false;
  }
  const size_t before = file.held.size();
  file.held.set(lock);
  count += file.held.size() - before;
  if (count == 0) lock_count_.erase(session);
  return true;
}

LockTable::Outcome LockTable::try_lock(InodeId ino, File& file, const FileLock& lock) {
  // As on Linux, another type of flock(2) is had by giving up the first: two that go from shared to
  // exclusive do not wait for each other.
  if (lock.whole && file.held.whole_of(lock.owner) != LockType::none &&
      file.held.whole_of(lock.owner) != lock.type) {
    FileLock none = lock;
    none.type = LockType::none;
    set(file, none, false);
    serve_waiters(ino);
  }
  if (file.held.conflict(lock) != nullptr) return Outcome::busy;
  return set(file, lock, true) ? Outcome::granted : Outcome::too_many;
}

LockTable::Outcome LockTable::lock(InodeId ino, const FileLock& lock) {
  DC_CHECK(delegations_.count(ino) == 0, "a lock of a delegated file is asked for");
  if (lock.type == LockType::none && files_.count(ino) == 0) return Outcome::granted;
  File& file = files_[ino];
  Outcome outcome = Outcome::granted;
  if (lock.type == LockType::none) {
    set(file, lock, false);
  } else {
    outcome = try_lock(ino, file, lock);
  }
  serve_waiters(ino);  // a write lock may have become a read lock
  forget_if_unused(ino);
  return outcome;
}

LockTable::Outcome LockTable::lock_or_wait(InodeId ino, const FileLock& lock, uint64_t name,
                                           Answered answered) {
  const SessionId session = lock.owner.session;
  const auto again = waits_.find({session, name});
  if (again != waits_.end() && again->second->ino == ino && again->second->lock == lock) {
    // Sent again over a new connection: it keeps its place.
    auto first = std::exchange(again->second->answered, std::move(answered));
    ready_.push_back([first = std::move(first)] { first(Outcome::interrupted); });
    return Outcome::waits;
  }
  if (again != waits_.end()) cancel(session, name);
  const Outcome outcome = this->lock(ino, lock);
  if (outcome != Outcome::busy) return outcome;
  const auto first = waits_.lower_bound({session, 0});
  const auto last = waits_.upper_bound({session, UINT64_MAX});
  if (static_cast<size_t>(std::distance(first, last)) >= limits_.waiting_per_session) {
    return Outcome::too_many;
  }
  if (!lock.whole && closes_circle(ino, lock)) return Outcome::deadlock;
  File& file = files_[ino];
  file.waiters.push_back({ino, lock, name, std::move(answered)});
  const auto waiter = std::prev(file.waiters.end());
  waits_[{session, name}] = waiter;
  if (!lock.whole) waits_of_.emplace(lock.owner, &*waiter);
  return Outcome::waits;
}

// Whether an owner that this lock would wait for waits, perhaps through others, for its owner.
bool LockTable::closes_circle(InodeId ino, const FileLock& lock) const {
  std::set<LockOwner> seen;
  std::vector<LockOwner> open;
  const auto add = [&](const FileLock& held) {
    if (seen.insert(held.owner).second) open.push_back(held.owner);
  };
  const auto add_holders = [&](InodeId where, const FileLock& wanted) {
    const auto file = files_.find(where);
    if (file != files_.end()) file->second.held.each_conflict(wanted, add);
  };
  add_holders(ino, lock);
  for (size_t steps = 0; !open.empty() && steps < kCircleStepsMax; ++steps) {
    const LockOwner owner = open.back();
    open.pop_back();
    if (owner == lock.owner) return true;
    const auto [first, last] = waits_of_.equal_range(owner);
    for (auto wait = first; wait != last; ++wait) {
      add_holders(wait->second->ino, wait->second->lock);
    }
  }
  return false;
}

LockTable::Waiters::iterator LockTable::drop_waiter(File& file, Waiters::iterator waiter,
                                                    Outcome outcome) {
  waits_.erase({waiter->lock.owner.session, waiter->name});
  const auto [first, last] = waits_of_.equal_range(waiter->lock.owner);
  for (auto wait = first; wait != last; ++wait) {
    if (wait->second != &*waiter) continue;
    waits_of_.erase(wait);
    break;
  }
  ready_.push_back([answered = std::move(waiter->answered), outcome] { answered(outcome); });
  return file.waiters.erase(waiter);
}

void LockTable::serve_waiters(InodeId ino) {
  const auto known = files_.find(ino);
  if (known == files_.end()) return;
  File& file = known->second;
  for (auto waiter = file.waiters.begin(); waiter != file.waiters.end();) {
    if (file.held.conflict(waiter->lock) != nullptr) {
      ++waiter;
      continue;
    }
    const bool fits = set(file, waiter->lock, true);
    waiter = drop_waiter(file, waiter, fits ? Outcome::granted : Outcome::too_many);
    // What it held before may have been more than it has now.
    if (fits) waiter = file.waiters.begin();
  }
}

void LockTable::forget_if_unused(InodeId ino) {
  const auto known = files_.find(ino);
  if (known != files_.end() && known->second.held.empty() && known->second.waiters.empty()) {
    files_.erase(known);
  }
}

void LockTable::cancel(SessionId session, uint64_t name) {
  const auto wait = waits_.find({session, name});
  if (wait == waits_.end()) return (void)cancel_asker(session, name);
  const InodeId ino = wait->second->ino;
  drop_waiter(files_.at(ino), wait->second, Outcome::interrupted);
  forget_if_unused(ino);
}

bool LockTable::cancel_asker(SessionId session, uint64_t name) {
  if (name == 0) return false;
  for (auto& [ino, delegation] : delegations_) {
    for (auto asker = delegation.askers.begin(); asker != delegation.askers.end(); ++asker) {
      if (asker->session != session || asker->name != name) continue;
      ready_.push_back(std::move(asker->cancelled));
      delegation.askers.erase(asker);
      return true;
    }
  }
  return false;
}

const FileLock* LockTable::conflict(InodeId ino, const FileLock& lock) const {
  const auto known = files_.find(ino);
  return known == files_.end() ? nullptr : known->second.held.conflict(lock);
}

void LockTable::release_owner(InodeId ino, const LockOwner& owner) {
  const auto known = files_.find(ino);
  if (known == files_.end()) return;
  const size_t before = known->second.held.size();
  known->second.held.drop_owner(owner);
  const size_t dropped = before - known->second.held.size();
  if (dropped > 0) {
    const auto count = lock_count_.find(owner.session);
    if ((count->second -= dropped) == 0) lock_count_.erase(count);
  }
  serve_waiters(ino);
  forget_if_unused(ino);
}

bool LockTable::told(SessionId session, uint64_t recall_id, InodeId ino,
                     const std::vector<FileLock>& locks) {
  if (recall_id != 0) {
    const auto recall = in_flight_.find(recall_id);
    if (recall == in_flight_.end() || recall->second.session != session) return false;
    // The answer to a recall of an earlier daemon may have the same number.
    if (ino != 0 && ino != recall->second.ino) return false;
    ino = recall->second.ino;
  }
  const auto known = delegations_.find(ino);
  if (known == delegations_.end() || known->second.session != session) return false;
  end_delegation(ino);
  for (const auto& lock : locks) adopt(ino, lock);
  return true;
}

void LockTable::adopt_delegation(SessionId session, InodeId ino) { (void)delegate(session, ino); }

void LockTable::adopt(InodeId ino, const FileLock& lock) {
  if (lock.type == LockType::none || delegations_.count(ino) > 0) return;
  const auto count = lock_count_.find(lock.owner.session);
  if (count != lock_count_.end() && count->second >= kToldMax) return;
  File& file = files_[ino];
  if (file.held.conflict(lock) == nullptr) set(file, lock, false);
  forget_if_unused(ino);
}

void LockTable::end_session(SessionId session) {
  std::vector<InodeId> touched, delegated;
  for (auto& [ino, delegation] : delegations_) {
    std::erase_if(delegation.askers, [&](const Asker& a) { return a.session == session; });
    if (delegation.session == session) delegated.push_back(ino);
  }
  for (const InodeId ino : delegated) end_delegation(ino);
  for (auto& [ino, file] : files_) {
    for (auto waiter = file.waiters.begin(); waiter != file.waiters.end();) {
      if (waiter->lock.owner.session == session) {
        waiter = drop_waiter(file, waiter, Outcome::interrupted);
      } else {
        ++waiter;
      }
    }
    file.held.drop_session(session);
    touched.push_back(ino);
  }
  lock_count_.erase(session);
  delegation_count_.erase(session);
  for (const InodeId ino : touched) {
    serve_waiters(ino);
    forget_if_unused(ino);
  }
}

std::vector<LockTable::Recall> LockTable::recalls_of(SessionId session) const {
  std::vector<Recall> recalls;
  for (const auto& [id, recall] : in_flight_) {
    if (recall.session == session) recalls.push_back(recall);
  }
  return recalls;
}

size_t LockTable::recalls_unanswered(SessionId session) const { return recalls_of(session).size(); }

LockTable::Continuation LockTable::next_ready() {
  if (ready_.empty()) return nullptr;
  Continuation next = std::move(ready_.front());
  ready_.pop_front();
  return next;
}

size_t LockTable::locks() const {
  size_t count = 0;
  for (const auto& [session, locks] : lock_count_) count += locks;
  return count;
}

}  // namespace datacloud
