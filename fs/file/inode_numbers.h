// Numbers for new inodes, of ranges granted by the daemon: a create that is sent again, and perhaps
// executed again, makes the same inode.
//
// take() never waits: when there is none (the daemon grants none, or they are used up faster than
// it answers) the daemon chooses the number.
//
// Thread safety: all methods from any thread; `client` outlives the object, and answers to it may
// come later than that.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "common/base/ids.h"
#include "common/rpc/rpc_session.h"

namespace datacloud {

class InodeNumbers {
 public:
  static constexpr uint32_t kGrant = 4096;  // asked for at once, when fewer than half are left

  explicit InodeNumbers(RpcSession& client) : client_(client), state_(std::make_shared<State>()) {}

  InodeId take();  // 0: the daemon shall choose
  // Asks for numbers if there are few.
  void refill();
  // What is left was revoked: the session is lost.
  void revoked();
  std::vector<IdRange> unused() const;

 private:
  struct State {
    std::mutex mutex;
    std::vector<IdRange> ranges;  // used from the first on; at most two
    uint64_t left = 0;
    uint64_t epoch = 0;  // counts revocations: a grant that crosses one is dropped
    bool asking = false;
  };
  RpcSession& client_;
  const std::shared_ptr<State> state_;
};

}  // namespace datacloud
