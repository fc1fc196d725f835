// Requests of this mount to the daemon, with their leases and attributes applied in message order.
//
// Replies are applied to the inode table on the RPC's I/O thread, before any later push is seen;
// the calling thread then gets the reply and the inodes it concerns.
//
// Thread safety: all methods from any thread but the I/O thread; they block.
#pragma once

#include <atomic>
#include <memory>

#include "common/rpc/rpc.h"
#include "fs/file/inode_table.h"

namespace datacloud {

class MetadataClient {
 public:
  MetadataClient(RpcClient& client, InodeTable& table) : client_(client), table_(table) {}

  struct Answer {
    pb::Reply reply;
    InodePtr inode;                 // of an AttrReply, or `moved` of a rename
    InodePtr replaced;              // rename
    std::vector<InodePtr> entries;  // readdir plus: one per item, null where it has no inode
    bool pinned = false;            // see `pin`
  };
  // `pin`: when at least this lease is granted, the inode counts a user from that very moment, so
  // that a recall right behind the grant lets it be used once.
  result<Answer> call(pb::Request request, pb::LeaseMode pin = pb::LEASE_NONE);
  // The same, when only success matters.
  result<void> run(pb::Request request);

  // From now on a change of names, attributes or extended attributes is durable when call() returns
  // (-o sync and -o dirsync).
  void set_synchronous(bool on) { synchronous_ = on; }

  // Makes sure this mount holds at least `mode` (and is registered as having it open, if asked).
  // Attributes are then true as of this call; the lease itself may already be recalled again,
  // unless the caller counts as a user (UseGuard).
  result<void> ensure_lease(const InodePtr&, pb::LeaseMode mode, bool open);
  // Makes sure the daemon keeps the inode, named or not, as long as this mount says it is open: the
  // caller has counted itself in `opens` before. A READ lease keeps it as well as being registered
  // does; hold_open() registers it when such a lease is recalled.
  result<void> ensure_kept(const InodePtr&);
  void hold_open(const InodePtr&);
  // Whether `mode` is held now. The caller holds the inode's mutex.
  bool holds(const Inode&, pb::LeaseMode mode) const;

  // Gives back queued leases; at most one request.
  void send_releases();

  InodeTable& table() { return table_; }

 private:
  RpcClient& client_;
  InodeTable& table_;
  std::atomic<bool> synchronous_{false};
};

// Marks a data operation that relies on `mode`: a recall waits for it. Acquired with the lease
// held; released by the destructor.
class UseGuard {
 public:
  // Ensures the lease and registers the use in one step.
  static result<UseGuard> acquire(MetadataClient&, const InodePtr&, pb::LeaseMode mode);
  UseGuard(UseGuard&& other) noexcept : inode_(std::move(other.inode_)) {}
  UseGuard& operator=(UseGuard&&) = delete;
  ~UseGuard();

 private:
  explicit UseGuard(InodePtr inode) : inode_(std::move(inode)) {}
  InodePtr inode_;
};

}  // namespace datacloud
