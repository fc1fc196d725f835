// Tells the daemon which object names will never be committed, so that it collects them.
//
// Names gather while a report is under way and leave in one request. A report that fails is put
// back (at most kAbandonedMax names; beyond that the listing scrub finds the objects) and goes
// with the next. Only names that no commit, also none of unknown outcome, can name belong here.
//
// Thread safety: all methods from any thread; add() does not block.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "common/base/clock.h"
#include "common/rpc/rpc.h"

namespace datacloud {

class AbandonReporter : public std::enable_shared_from_this<AbandonReporter> {
 public:
  explicit AbandonReporter(RpcClient& client) : client_(&client) {}

  void add(std::vector<pb::PendingDeletion> objects);
  // The present shards of a stripe that will not be committed.
  void add(const pb::Stripe&);
  // Sends what is left, waits at most `limit`, then never touches the client again.
  void close(Duration limit);

 private:
  void send_locked(std::unique_lock<std::mutex>&);
  void answered(std::vector<pb::PendingDeletion> sent, const result<pb::Reply>&);

  std::mutex mutex_;
  std::condition_variable idle_;
  RpcClient* client_;  // null once closed
  std::vector<pb::PendingDeletion> waiting_;
  bool sending_ = false;
};

}  // namespace datacloud
