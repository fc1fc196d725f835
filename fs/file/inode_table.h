// Inodes the kernel or an unfinished flush refers to, and the leases that go with them.
//
// Grants are applied by apply() on the RPC's I/O thread, in the order of the daemon's messages, so
// that a recall is never overtaken by the grant it follows. Leases of inodes the kernel has
// forgotten are given back in batches, unless they are wanted again before; a grant whose request
// was sent before the release was answered is not taken (the release may have cancelled it).
//
// Thread safety: all methods from any thread.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "common/rpc/rpc.h"
#include "fs/file/inode.h"

namespace datacloud {

class InodeTable {
 public:
  // A ticket orders a request against releases; taken before it is sent, given back after.
  uint64_t begin_request();
  void end_request(uint64_t ticket);

  // Called when the daemon turns out to have a state of a file that another mount has made while
  // this one held no lease: uncommitted changes, cached blocks and the kernel's pages are of a
  // state that is gone. With the table's and the inode's mutex held, on the RPC's I/O thread.
  using Overtaken = std::function<void(const InodePtr&)>;
  void on_overtaken(Overtaken);

  InodePtr find(InodeId) const;  // null when unknown
  // Merges what the daemon says. `session` is the session the grant belongs to.
  InodePtr apply(const pb::Inode&, pb::LeaseMode lease, bool open, uint64_t sequence,
                 uint64_t session, uint64_t ticket);
  void apply_parent_lease(InodeId, pb::LeaseMode, uint64_t session, uint64_t ticket);

  // A change up to `sequence` altered attributes that no reply carried: older replies do not count.
  void mark_stale(InodeId, uint64_t sequence, uint64_t session);

  // The daemon has started anew: the numbers of its transactions may begin lower than they were.
  void forget_sequences();

  // The kernel got a reference; an inode dropped meanwhile comes back.
  void add_lookup(const InodePtr&);
  void forget(InodeId, uint64_t count);
  // The inode may have become unused (after a close or a flush): the next sweep sees.
  void release_if_unused(const InodePtr&);
  // Of the mount: it stays. Before the first inode.
  void set_root(InodeId root) { root_ = root; }

  // The inode has no lease and is not open here any more: the daemon is told (it may be unlinked).
  void release_open_mark(const InodePtr&);

  // The daemon may believe that this is open or leased here: it is told, unless it is so.
  void give_back(InodeId);

  // Drops the inodes nothing refers to, and gives up the leases of those that are gone; called now
  // and then. What else is cached of those returned must go before their leases are given back.
  [[nodiscard]] std::vector<InodeId> sweep();

  // Leases to give back now; the caller sends them and then calls released().
  std::vector<pb::HeldLease> take_releases(size_t count_max);
  void released(const std::vector<pb::HeldLease>&);

  // A page of a directory's listing, with a lease on the directory (as apply_parent_lease has taken
  // it): its names are known from now on, unless one of them has changed since the request was
  // begun. The daemon holds a page back that shows what is not durable, and later answers and
  // recalls overtake it. On the RPC's I/O thread, after apply() of its inodes.
  void learn(InodeId directory, uint64_t from, const pb::ReadDirReply& page, uint64_t session,
             uint64_t ticket);
  // These names may have changed; none given: all of them.
  void forget_names(InodeId directory, const std::vector<std::string>& names);
  // Bounds the names that are known of all directories together.
  void set_known_max(size_t names) { known_max_ = names; }
  size_t known() const;

  std::vector<InodePtr> all() const;
  size_t size() const;

 private:
  struct Release {
    bool sent = false;
    uint64_t end_ticket = UINT64_MAX;  // requests begun before this do not get the lease
  };
  bool grant_allowed(InodeId, uint64_t ticket);
  InodePtr find_or_create(InodeId);
  bool unused(const Inode&) const;
  void queue_release(InodeId);
  bool give_up_if_gone(Inode&);
  void drop_listing(Inode&);  // with the table's mutex only
  void unlist(const std::vector<InodeId>&);

  InodeId root_ = kRootInode;
  mutable std::mutex mutex_;
  Overtaken overtaken_;
  std::unordered_map<InodeId, InodePtr> inodes_;
  std::unordered_set<InodeId> candidates_;         // perhaps unused
  std::unordered_map<InodeId, Release> releases_;  // queued, sent or recently answered
  std::deque<InodeId> queue_;                      // to be sent
  std::map<uint64_t, int> requests_;               // tickets in flight
  uint64_t next_ticket_ = 1;
  std::map<uint64_t, InodeId> listings_;  // directories with a known listing, by listing_order
  uint64_t listing_order_ = 0;
  std::atomic<size_t> known_max_{50'000};
  size_t known_ = 0;  // names, and one for each listing
};

}  // namespace datacloud
