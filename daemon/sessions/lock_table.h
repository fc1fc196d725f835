// The advisory locks of all mounts: who holds which, who waits, and which mount decides about a
// file's locks by itself. Pure, as the lease table is: it sends nothing and looks at no clock; the
// service sends what take_recalls() gives and runs what next_ready() gives after every event.
//
// A file is in one of three states: nobody locks it; it is delegated to one session, which decides
// about its locks without asking, so that none of them is known here; or its locks are kept here.
// A delegation ends when another session wants a lock (it is recalled, and the answer tells the
// locks), when its holder gives it back, and with the session.
//
// Invariants: a file is delegated or has locks and waiters here, never both; waiters of a file are
// tried in the order of their arrival whenever something is given up; a lock is granted when no
// other owner holds one that excludes it, as on Linux, whoever waits.
//
// A wait that closes a circle of owners, each of which waits for the next, is refused (POSIX locks;
// flock(2) has no such rule). Owners of open files count as processes do, since the kernel does not
// say which is which.
//
// Bounded by Limits; locks that a recall's answer tells are kept beyond them, up to kToldMax of a
// session.
#pragma once

#include <deque>
#include <functional>
#include <list>
#include <map>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/locks/lock_ranges.h"

namespace datacloud {

class LockTable {
 public:
  using Continuation = std::function<void()>;

  struct Limits {
    size_t per_file = 16'384;
    size_t per_session = 100'000;  // locks, and as many delegated files
    size_t waiting_per_session = 1024;
  };
  static constexpr size_t kToldMax = 1u << 20;

  enum class Outcome { granted, busy, deadlock, too_many, interrupted, waits };
  using Answered = std::function<void(Outcome)>;

  struct Recall {
    uint64_t id = 0;  // none of a lease's: the highest bit is set
    SessionId session = 0;
    InodeId ino = 0;
  };

  explicit LockTable(Limits limits) : limits_(limits) {}
  // As LeaseTable::number_recalls().
  void number_recalls(uint64_t first) { last_recall_ = uint64_t{1} << 63 | first; }

  // From now on the session decides about the file's locks. False while anybody else has to do with
  // them, or the session has too many.
  bool delegate(SessionId, InodeId);

  // True: the locks are kept here now, go on. A session that asks about a file that is delegated to
  // itself has ended that, and holds no lock of it. False: the delegation has to be recalled first;
  // call when_kept().
  bool kept_here(SessionId, InodeId);
  // `ready` when the delegation is over. `name` (0: none) as for lock(): cancel() ends that wait
  // with `cancelled`.
  void when_kept(SessionId, InodeId, uint64_t name, Continuation ready, Continuation cancelled);

  // For files whose locks are kept here. type none gives up, and is always granted.
  Outcome lock(InodeId, const FileLock&);
  // The same, but a conflict waits: `answered` is called later, once. The name is the session's; a
  // second wait of the same name takes the place of the first, which is answered `interrupted`.
  Outcome lock_or_wait(InodeId, const FileLock&, uint64_t name, Answered answered);
  void cancel(SessionId, uint64_t name);
  const FileLock* conflict(InodeId, const FileLock&) const;
  void release_owner(InodeId, const LockOwner&);

  // The answer to a recall (or, with id 0, the end of a delegation that nobody has recalled): the
  // locks that the session holds. False: it holds no such delegation.
  bool told(SessionId, uint64_t recall_id, InodeId, const std::vector<FileLock>&);
  // A session from before the daemon's start presents what it has.
  void adopt_delegation(SessionId, InodeId);
  void adopt(InodeId, const FileLock&);
  void end_session(SessionId);

  std::vector<Recall> take_recalls() { return std::exchange(outbox_, {}); }
  std::vector<Recall> recalls_of(SessionId) const;  // in flight
  size_t recalls_unanswered(SessionId) const;
  Continuation next_ready();

  size_t locks() const;  // kept here
  size_t waiting() const { return waits_.size(); }
  size_t delegated() const { return delegations_.size(); }

 private:
  struct Waiter {
    InodeId ino = 0;
    FileLock lock;
    uint64_t name = 0;
    Answered answered;
  };
  using Waiters = std::list<Waiter>;
  struct File {
    LockRanges held;
    Waiters waiters;
  };
  struct Asker {  // waits for a delegation to end
    SessionId session = 0;
    uint64_t name = 0;
    Continuation ready, cancelled;
  };
  struct Delegation {
    SessionId session = 0;
    uint64_t recall = 0;  // in flight
    std::deque<Asker> askers;
  };

  Outcome try_lock(InodeId, File&, const FileLock&);
  bool set(File&, const FileLock&, bool bounded);
  bool closes_circle(InodeId, const FileLock&) const;
  void serve_waiters(InodeId);
  void end_delegation(InodeId);
  void forget_if_unused(InodeId);
  Waiters::iterator drop_waiter(File&, Waiters::iterator, Outcome);
  bool cancel_asker(SessionId, uint64_t name);

  const Limits limits_;
  std::unordered_map<InodeId, File> files_;
  std::unordered_map<InodeId, Delegation> delegations_;
  std::unordered_map<SessionId, size_t> lock_count_, delegation_count_;
  // Every waiter, by its session and name, and by its owner.
  std::map<std::pair<SessionId, uint64_t>, Waiters::iterator> waits_;
  std::multimap<LockOwner, const Waiter*> waits_of_;
  std::map<uint64_t, Recall> in_flight_;
  std::vector<Recall> outbox_;
  std::deque<Continuation> ready_;
  uint64_t last_recall_ = uint64_t{1} << 63;
};

}  // namespace datacloud
