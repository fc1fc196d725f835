// Who holds which lease, who waits for one, and which recalls are on their way. Pure: it sends
// nothing and looks at no clock; the service sends what take_recalls() gives and runs what
// next_ready() gives after every event.
//
// Invariants: at most one session holds WRITE on an inode, and then nobody else holds READ; one
// recall is in flight per (holder, inode), further needs are merged behind it; waiters of an inode
// are served in the order of their arrival, and nothing is granted past them except to sessions
// that hold it already. A waiter holds nothing while it waits, so no cycle can form.
//
// Bounded by leases_max holders; who finds no room is told LEASE_NONE and may not cache.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/base/ids.h"
#include "common/proto/rpc.pb.h"

namespace datacloud {

// Numbers of a start's recalls begin behind this; those of locks have the highest bit besides.
inline uint64_t recall_numbers(uint64_t start) { return (start & 0x7fffff) << 40; }

class LeaseTable {
 public:
  using Continuation = std::function<void()>;

  struct Recall {
    uint64_t id = 0;
    SessionId session = 0;
    InodeId ino = 0;
    pb::LeaseMode mode = pb::LEASE_NONE;
    std::vector<std::string> names;
  };

  // Counts the holders that still have to hear of a change that has been made.
  struct Notice {
    size_t outstanding = 0;
    Continuation done;  // set before the next event
  };
  using NoticePtr = std::shared_ptr<Notice>;

  explicit LeaseTable(size_t leases_max) : leases_max_(leases_max) {}
  // Before the first recall: their numbers differ from those of the daemon's other starts, since a
  // mount may answer one from before a restart after it.
  void number_recalls(uint64_t start) { last_recall_ = recall_numbers(start); }
  // Called when an inode has no holder any more (neither lease nor open file).
  void on_unheld(std::function<void(InodeId)> f) { on_unheld_ = std::move(f); }

  // True: no other session holds more than `others`, and nobody waits: go on at once.
  bool admits(SessionId, InodeId, pb::LeaseMode others) const;
  // Queues `ready` until that is so; the holders in the way are recalled. Who wants attributes only
  // is served before, when the writer in the way puts its recall off.
  enum class Wants { lease, attributes };
  void wait(SessionId, InodeId, pb::LeaseMode others, Continuation ready, Wants = Wants::lease);

  // Gives at least `mode` if no other holder is in the way, and registers an open file. Returns
  // what the session now holds, less what is being recalled. For a request that was admitted.
  pb::LeaseMode grant(SessionId, InodeId, pb::LeaseMode mode, bool open);
  // The same for a lease nobody asked for: gives nothing new while somebody waits.
  pb::LeaseMode offer(SessionId, InodeId, pb::LeaseMode mode);
  // False: registering an open file for this session would exceed the bound.
  bool has_room(SessionId, InodeId) const;
  // A resuming session holds this: entered as far as others allow; the rest is recalled.
  // False: no room.
  bool adopt(SessionId, const pb::HeldLease&);

  // After `author` has changed the inode: everybody else is to reduce to `keep` (with names: to
  // forget these entries). Holders are counted in `notice`, which is made when there is one.
  void notify(SessionId author, InodeId, pb::LeaseMode keep, std::vector<std::string> names,
              NoticePtr& notice);

  // Reduces one holder.
  void recall(SessionId, InodeId, pb::LeaseMode);
  // What remains of a session's lease.
  void release(SessionId, const pb::HeldLease& remains);
  void recall_done(SessionId, uint64_t recall_id);
  // A writer cannot answer this recall now, but has heard of every change that it was sent for.
  // `attributes`: what it has.
  void put_off(SessionId, uint64_t recall_id, pb::Inode attributes);
  // The writer of the inode that has put off its recall; `attributes` is null when there is none.
  struct Unwritten {
    SessionId session = 0;
    const pb::Inode* attributes = nullptr;  // until the next call that changes the table
  };
  Unwritten unwritten(InodeId) const;
  // Everything the session held, waited for or owed an answer to.
  void end_session(SessionId);

  // To be sent now, in order.
  std::vector<Recall> take_recalls();
  // In flight to this session (sent again when it resumes).
  std::vector<Recall> recalls_of(SessionId) const;
  size_t recalls_unanswered(SessionId) const;
  // The next continuation whose turn has come; empty when there is none. Run it before asking for
  // another.
  Continuation next_ready();

  pb::LeaseMode held(SessionId, InodeId) const;
  bool is_held(InodeId ino) const { return inodes_.count(ino) > 0 && !unheld(ino); }
  size_t size() const { return size_; }
  size_t leases_of(SessionId) const;
  size_t waiting() const { return waiting_; }

 private:
  // A recall in flight and what is merged behind it.
  struct Outstanding {
    uint64_t id = 0;
    pb::LeaseMode mode = pb::LEASE_NONE;
    std::vector<NoticePtr> notices;
    bool again = false;
    pb::LeaseMode next_mode = pb::LEASE_WRITE;
    std::vector<std::string> next_names;
    std::vector<NoticePtr> next_notices;
    std::unique_ptr<pb::Inode> unwritten;  // put off
  };
  struct Holder {
    SessionId session = 0;
    pb::LeaseMode mode = pb::LEASE_NONE;
    bool open = false;
    std::unique_ptr<Outstanding> recall;
  };
  struct Waiter {
    SessionId session = 0;
    pb::LeaseMode others = pb::LEASE_NONE;
    Continuation ready;
    Wants wants = Wants::lease;
  };
  struct InodeLeases {
    std::vector<Holder> holders;
    std::unique_ptr<std::deque<Waiter>> queue;
  };

  bool unheld(InodeId) const;
  static bool conflicts(const InodeLeases&, SessionId, pb::LeaseMode others);
  static void check_exclusive(const InodeLeases&, const Holder&);
  static Holder* find(InodeLeases&, SessionId);
  static pb::LeaseMode usable(const Holder&);
  pb::LeaseMode usable_by(SessionId, InodeId);
  Holder* find_or_add(InodeId, SessionId);
  void request_recall(InodeId, Holder&, pb::LeaseMode, std::vector<std::string> names,
                      const NoticePtr&);
  void send(InodeId, Holder&, pb::LeaseMode, std::vector<std::string> names);
  void say_more(InodeId, Holder&);
  void answered(SessionId);
  void complete(std::vector<NoticePtr>&);
  void drop_if_nothing(InodeId, SessionId);
  void erased_holder(SessionId);
  void after_change(InodeId);

  const size_t leases_max_;
  std::function<void(InodeId)> on_unheld_;
  std::unordered_map<InodeId, InodeLeases> inodes_;
  std::unordered_map<SessionId, size_t> count_of_;
  std::unordered_map<uint64_t, Recall> in_flight_;
  std::unordered_map<SessionId, size_t> unanswered_;  // of these, by session
  std::vector<Recall> outbox_;
  std::deque<InodeId> examine_;
  std::deque<Continuation> ready_;
  uint64_t last_recall_ = 0;
  size_t size_ = 0, waiting_ = 0;
};

}  // namespace datacloud
