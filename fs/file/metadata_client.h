// Requests of this mount to the daemon, with their leases and attributes applied in message order.
//
// Replies are applied to the inode table on the RPC's I/O thread, before any later push is seen;
// the calling thread then gets the reply and the inodes it concerns. A caller may stop waiting, by
// an interruption (fs/base/interruption.h) or by the RPC's deadline, while the request goes on: its
// reply is then applied all the same, what it would have left with the caller is given back, and
// what the kernel does not know of it is told to `unwitnessed`.
//
// Thread safety: all methods from any thread but the I/O thread; they block.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "common/rpc/rpc_session.h"
#include "fs/base/timer_queue.h"
#include "fs/file/inode_table.h"

namespace datacloud {

class MetadataClient {
 public:
  MetadataClient(RpcSession& client, InodeTable& table) : client_(client), table_(table) {}

  // A change whose caller was told an error has been made after all, or perhaps: attributes of
  // `inodes` (of any inode when `all`) and, if `entries`, entries of directories are other than the
  // kernel believes. Runs on the I/O thread and must not block.
  struct Unwitnessed {
    std::vector<InodeId> inodes;
    bool entries = false;
    bool all = false;
  };
  void on_unwitnessed(std::function<void(const Unwitnessed&)>);  // null: nobody listens any more

  struct Answer {
    pb::Reply reply;
    InodePtr inode;                 // of an AttrReply, or `moved` of a rename
    InodePtr replaced;              // rename
    std::vector<InodePtr> entries;  // readdir plus: one per item, null where it has no inode
    bool pinned = false;            // see `pin`
  };
  // `pin`: when at least this lease is granted, the inode counts a user from that very moment, so
  // that a recall right behind the grant lets it be used once.
  // `behind`, if any, runs on this thread when the request has been sent: what it sends without
  // waiting goes in the same flight.
  result<Answer> call(pb::Request request, pb::LeaseMode pin = pb::LEASE_NONE,
                      const std::function<void()>& behind = {});
  // Does not block: `done` gets the answer, or the failure there was none within `patience`. It
  // runs on the I/O thread, the timer's or this one, and must not block either.
  void ask(pb::Request request, Duration patience, std::function<void(result<Answer>)> done);
  // The same as call(), when only success matters.
  result<void> run(pb::Request request);

  // From now on a change of names, attributes or extended attributes is durable when call() returns
  // (-o sync and -o dirsync).
  void set_synchronous(bool on) { synchronous_ = on; }
  bool synchronous() const { return synchronous_; }

  // Makes sure this mount holds at least `mode` (and is registered as having it open, if asked).
  // Attributes are then true as of this call; the lease itself may already be recalled again,
  // unless the caller counts as a user (UseGuard). READ is not given, and not waited for, while
  // another mount has written what it cannot store.
  // `behind` as for call(), once, whether there was anything to ask or not.
  result<void> ensure_lease(const InodePtr&, pb::LeaseMode mode, bool open,
                            const std::function<void()>& behind = {});
  // Makes sure the daemon keeps the inode, named or not, as long as this mount says it is open: the
  // caller has counted itself in `opens` before. A READ lease keeps it as well as being registered
  // does; hold_open() registers it when such a lease is recalled.
  result<void> ensure_kept(const InodePtr&);
  void hold_open(const InodePtr&);
  // Whether `mode` is held now. The caller holds the inode's mutex.
  bool holds(const Inode&, pb::LeaseMode mode) const;

  // A change that the daemon had made and lost was made again, or could not be
  // (Keeping::on_redone). Runs on the I/O thread and does not block. What commits could not bring
  // is FileIo's.
  void redone(const pb::Request&, result<pb::Reply>);

  // What is known of a name without asking, under the directory's lease: its inode with attributes
  // that are true now, null when it does not exist; nullopt: not known.
  std::optional<InodePtr> known_entry(const InodePtr& directory, const std::string& name);
  // The same of a page of a listing with attributes; false: not known.
  bool known_page(const InodePtr& directory, uint64_t from, uint32_t count_max, uint64_t end_cookie,
                  Answer&);
  // A name of the directory is not known. Once it is clear that more will be asked for, fetches
  // many names at once, perhaps those of the next directories too. True: it may be known now.
  result<bool> fetch_names(const InodePtr& directory);
  // A listing of the directory begins. True: it may be known now.
  result<bool> fetch_listing(const InodePtr& directory);

  // Gives back queued leases; at most one request.
  void send_releases();

  // Of the connection to the daemon: whether there is one, and the number of its session.
  bool connected() const { return client_.connected(); }
  uint64_t session() const { return client_.session(); }
  InodeTable& table() { return table_; }

 private:
  struct Call;
  result<bool> fetch_beside(const InodePtr& directory);
  result<void> fetch(pb::ReadDirRequest);
  std::shared_ptr<Call> start(const pb::Request& request, pb::LeaseMode pin);
  void send(pb::Request request, const std::shared_ptr<Call>&);
  void finish(const std::shared_ptr<Call>&, result<pb::Reply>);
  void known_late(Call&, result<pb::Reply>);
  void give_back(const Call&, Answer&);
  void tell(const Unwitnessed&);

  RpcSession& client_;
  InodeTable& table_;
  std::atomic<bool> synchronous_{false};
  std::mutex unwitnessed_mutex_;
  std::function<void(const Unwitnessed&)> unwitnessed_;
  TimerQueue timers_;  // of ask(); last: its tasks use the above
};

// With the session, or without the lease it was made under, a request has come to nothing or may
// have been executed: it is to be made again under a new lease.
bool session_is_over(const Error&);

// A request for a lease (and to be registered as having it open).
pb::Request lease_request(InodeId, pb::LeaseMode, bool open);

// Marks a data operation that relies on `mode`: a recall waits for it. Acquired with the lease
// held; released by the destructor.
class UseGuard {
 public:
  // Ensures the lease and registers the use in one step.
  static result<UseGuard> acquire(MetadataClient&, const InodePtr&, pb::LeaseMode mode);
  // The same without asking for anything; null when the lease is not held now. Who uses one file
  // may not wait for the lease of another: its holder could be waiting for the first.
  static std::optional<UseGuard> acquire_held(MetadataClient&, const InodePtr&, pb::LeaseMode mode);
  UseGuard(UseGuard&& other) noexcept : inode_(std::move(other.inode_)) {}
  UseGuard& operator=(UseGuard&&) = delete;
  ~UseGuard();

 private:
  explicit UseGuard(InodePtr inode) : inode_(std::move(inode)) {}
  InodePtr inode_;
};

}  // namespace datacloud
