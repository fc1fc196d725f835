// Locks of files, flock(2) and fcntl(2), as programs of this mount ask for them.
//
// The first lock of a file asks the daemon to delegate the file's locks. While it does, locks are
// decided here and cost no message; when another mount wants one, the daemon recalls the
// delegation, is told what is held here, and decides from then on. A POSIX lock that has to wait is
// the daemon's affair from the start, since only it sees all owners that could wait in a circle:
// the file is given back first. A daemon that does not know locks leaves them to this mount, as if
// it were alone.
//
// Invariants: `held` of a file has what the daemon has granted or, of a delegated file, what is
// held at all; messages about one file leave in the order in which its state changed.
//
// A lost session loses its locks. Handles through which they were taken are marked then: reading
// and writing through them fails, so that no program goes on as if it were alone.
//
// Bounds: kFilesMax files without locks are remembered; kLocksMax locks, and kLocksPerFileMax of a
// file, while they are decided here.
//
// Thread safety: all methods from any thread; none blocks. What is called back must not block.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "common/locks/lock_ranges.h"
#include "common/rpc/rpc_session.h"
#include "fs/base/timer_queue.h"

namespace datacloud {

// What a handle has to do with locks. Closing the descriptor of an OFD lock says nothing but the
// release of its handle: so a handle remembers the owners that came through it.
struct HandleLocks {
  std::vector<uint64_t> owners;   // FileLocks guards it
  std::atomic<bool> lost{false};  // with a session; reading and writing fail
};

class FileLocks {
 public:
  static constexpr size_t kFilesMax = 4096;
  static constexpr size_t kLocksMax = 100'000;
  static constexpr size_t kLocksPerFileMax = 16'384;

  struct Operation;
  using OperationPtr = std::shared_ptr<Operation>;
  using Done = std::function<void(result<void>)>;
  using Tested = std::function<void(result<std::optional<FileLock>>)>;

  explicit FileLocks(RpcSession& client) : client_(client) {}
  ~FileLocks();

  // Callbacks run once, on this or another thread, perhaps before the method returns. Failures:
  // EAGAIN, EDEADLK, ENOLCK, EINTR, or there is no answer. The lock's session does not count.
  OperationPtr set(InodeId, HandleLocks&, const FileLock&, bool wait, Done);
  OperationPtr test(InodeId, const FileLock&, Tested);
  // A signal has come: a wait ends with EINTR, unless it is granted first.
  void cancel(const OperationPtr&);
  // Nobody waits any more: called back with this error now; a lock that comes later is given up.
  void abandon(const OperationPtr&, const Error&);

  // The owner closes a descriptor of the file: its locks of it go. `done` when nobody sees them any
  // more. Null when it has none.
  OperationPtr flush(InodeId, HandleLocks&, uint64_t owner, Done);
  // The last descriptor of the handle is closed.
  void release(InodeId, HandleLocks&);

  // On the RPC's I/O thread.
  void recalled(const pb::Recall&);
  void present(pb::HelloRequest&);
  // The daemon has said hello; `lost`: to a new session, since the one before was lost with all
  // that it held. Returns the files whose locks are lost.
  std::vector<InodeId> session_begins(bool lost);

 private:
  using Batch = std::vector<std::function<void()>>;  // to be run without the mutex
  using Callback = std::function<void(result<pb::Reply>)>;
  enum class State { unknown, asking, delegated, kept, local };
  struct File {
    State state = State::unknown;
    uint64_t generation = 0;  // differs from the one an answer is for: the session was lost since
    LockRanges held;
    std::list<OperationPtr> waiters;  // for locks that are decided here
    std::deque<OperationPtr>
        queue;  // until the state is known, or what was given up is known to be
    size_t in_flight = 0;
    size_t unresolved = 0;  // given up, and not known to have arrived
    std::vector<HandleLocks*> handles;
    MonotonicTime contended{}, used{};
    bool busy() const {
      return !held.empty() || in_flight > 0 || unresolved > 0 || !queue.empty() || !waiters.empty();
    }
  };

  // All with the mutex held.
  void step(const OperationPtr&, Batch&);
  void run_queue(InodeId, File&, Batch&);
  void run_waiters(File&, Batch&);
  void ask(InodeId, File&, Batch&);
  void probed(InodeId, uint64_t generation, const result<pb::Reply>&, Batch&);
  void delegated(InodeId, uint64_t generation, const result<pb::Reply>&, Batch&);
  void fail_queue(File&, const Error&, Batch&);
  void decide(const OperationPtr&, File&, Batch&);
  result<void> take(File&, const FileLock&);
  void set_held(File&, const FileLock&);
  void give_back(InodeId, File&, uint64_t recall_id, Batch&);
  void ask_daemon(const OperationPtr&, File&);
  void answered(const OperationPtr&, uint64_t generation, result<pb::Reply>, bool late, Batch&);
  void record(const Operation&, File&, bool granted);
  void finish(const OperationPtr&, result<void>, Batch&);
  void leave(const OperationPtr&, File&, const Error&, Batch&);
  void send_cancel(const Operation&);
  void remove_from_lists(const OperationPtr&, File&);
  void bound_files(Batch&);
  File* find(InodeId, uint64_t generation);
  void send(pb::Request, Callback, Callback late);
  void locked(const std::function<void(Batch&)>&);  // takes the mutex, runs the batch after it
  static LockOwner owner_of(uint64_t number) { return {0, number}; }

  RpcSession& client_;
  std::mutex mutex_;
  std::unordered_map<InodeId, File> files_;
  enum class Support { unknown, yes, no } support_ = Support::unknown;
  uint64_t generation_ = 1;
  uint64_t last_name_ = 0;
  size_t held_ = 0;
  bool ended_ = false;
  TimerQueue timers_;  // last
};

}  // namespace datacloud
