// What the parts of the RPC server share: the one thread, and the limit of what peers can log.
#pragma once

#include <atomic>
#include <thread>

#include "common/base/asio.h"
#include "common/base/clock.h"
#include "common/rpc/rpc.h"

namespace datacloud {

// At most ten lines a second of what peers can cause.
class PeerLog {
 public:
  bool allow() {
    const auto now = monotonic_now();
    if (now - window_start_ > seconds(1)) {
      window_start_ = now;
      lines_ = 0;
    }
    return ++lines_ <= 10;
  }

 private:
  MonotonicTime window_start_{};
  int lines_ = 0;
};

// Used on the service thread only, besides `thread`.
struct RpcLoop {
  explicit RpcLoop(RpcService& s) : service(s) {}
  RpcService& service;
  PeerLog peer_log;
  std::atomic<std::thread::id> thread{};
  boost::asio::io_context io{1};
};

}  // namespace datacloud
