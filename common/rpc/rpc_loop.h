// What the parts of the RPC server share: the service's thread, and the limit of what peers can
// log.
#pragma once

#include <memory>
#include <mutex>

#include "common/base/asio.h"
#include "common/base/clock.h"
#include "common/rpc/rpc.h"

namespace datacloud {

// At most ten lines a second of what peers can cause. From any thread.
class PeerLog {
 public:
  bool allow() {
    std::lock_guard lock(mutex_);
    const auto now = monotonic_now();
    if (now - window_start_ > seconds(1)) {
      window_start_ = now;
      lines_ = 0;
    }
    return ++lines_ <= 10;
  }

 private:
  std::mutex mutex_;
  MonotonicTime window_start_{};
  int lines_ = 0;
};

struct RpcLoop {
  explicit RpcLoop(Duration stall) : stall_max(stall) {}
  const Duration stall_max;  // RpcServerOptions
  PeerLog peer_log;
  std::shared_ptr<PeerRefusals> refusals =
      std::make_shared<PeerRefusals>();  // set before listening
  boost::asio::io_context io{1};         // the service's thread
};

}  // namespace datacloud
