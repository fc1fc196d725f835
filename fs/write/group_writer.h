// Groups at write time: the XOR row over t consecutive full stripes of one flush stream, made from
// columns that are in memory anyway, without reading anything.
//
// A stripe joins its stream's open group when it is closed; all members share the mapping of
// columns to sites (by the group's number). Their columns are added up as they are built. When all
// members are committed the row is put like a stripe, tags included, and committed by itself. A
// group one of whose members fails or is redone is given up, and so is one that nothing has joined
// for a while: its stripes stay ungrouped, which the daemon may change later.
//
// Memory: the columns of kGroupsMax rows. An open group makes way for another stream's; else join()
// waits for rows under way, which need nothing of the one who waits.
//
// Threads: all methods from any thread; only join() with `may_wait` and wait_idle() block.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/base/executor.h"
#include "fs/write/stripe_putter.h"

namespace datacloud {

class GroupWriter {
 public:
  struct Dependencies {
    RpcClient& client;
    Executor& work;
    std::shared_ptr<PutContext> puts;
  };
  explicit GroupWriter(Dependencies);
  ~GroupWriter();

  class Group;
  // A stripe's place in a group; without one, `group` is null and the methods below do nothing.
  struct Place {
    std::shared_ptr<Group> group;
    size_t index = 0;
    explicit operator bool() const { return group != nullptr; }
    uint64_t number() const;  // of the group: the rotation of its members' columns
  };
  struct Shape {
    std::shared_ptr<const ErasureCode> code;
    uint32_t members = 0;
    SiteId home_site = 0;
    uint32_t shard_bytes = kShardPlainBytesMax;
  };
  // A place for the stripe that the stream has just closed.
  Place join(const std::string& stream, const Shape&, bool may_wait);
  void add(const Place&, const BuiltStripe&);
  void committed(const Place&, StripeId);
  void give_up(const Place&);

  // Open groups are given up; waits for rows under way.
  void wait_idle();

 private:
  using GroupPtr = std::shared_ptr<Group>;
  bool make_room(std::unique_lock<std::mutex>&, bool may_wait);
  void end_locked(GroupPtr);  // by value: it may be the one in open_
  void drop_if_idle(const std::weak_ptr<Group>&, size_t joined);
  void put_row(const GroupPtr&);
  void commit_row(const GroupPtr&, pb::Stripe row);
  void end(const GroupPtr&);

  const Dependencies d_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, GroupPtr> open_;  // by stream: fewer than t have joined
  size_t groups_ = 0;                     // open and under way
  uint64_t next_number_;
};

}  // namespace datacloud
