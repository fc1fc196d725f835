// Ids for new stripes, instances and contents, taken from ranges granted by the daemon.
//
// Thread safety: all methods from any thread; take() may block for one RPC.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <set>

#include "common/base/ids.h"
#include "common/rpc/rpc.h"

namespace datacloud {

class IdPool {
 public:
  explicit IdPool(RpcClient& client) : client_(client) {}

  // `count` consecutive ids, never given before. Fails when the daemon cannot be reached.
  result<uint64_t> take(IdKind kind, uint64_t count = 1);
  // Drops what is left of every range: the daemon has revoked them.
  void revoked();

 private:
  RpcClient& client_;
  std::mutex mutex_;
  std::condition_variable answered_;
  std::set<IdKind> asking_;  // kinds with a grant under way
  std::map<IdKind, IdRange> ranges_;
  uint64_t epoch_ = 0;  // counts revocations: a grant that crosses one is dropped
};

}  // namespace datacloud
