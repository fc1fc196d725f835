// What the parts of the RPC server share: the service, which is called for one thing at a time, and
// the limit of what peers can log.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

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

// Whoever calls the service holds `service`. Posted functions and timers run on the loop's thread,
// and so do requests, in turn; but while nothing waits there, the thread that has received a
// request serves it itself, which saves waking two others.
class RpcLoop {
 public:
  explicit RpcLoop(Duration stall) : stall_max(stall) {}
  const Duration stall_max;  // RpcServerOptions
  PeerLog peer_log;
  std::shared_ptr<PeerRefusals> refusals =
      std::make_shared<PeerRefusals>();  // set before listening
  std::mutex service;
  std::atomic<int> posted{0};     // functions that wait for it
  boost::asio::io_context io{1};  // the loop's thread

  // Any thread; `f` runs on the loop's.
  void post(std::function<void()> f) {
    ++posted;
    boost::asio::post(io, [this, f = std::move(f)] {
      {
        std::lock_guard lock(service);
        f();
      }
      --posted;
    });
  }
  // On the loop's thread: calls `f`, which may call the service, when nobody else does.
  template <class F>
  auto with_service(const F& f) {
    struct Counted {
      explicit Counted(std::atomic<int>& c) : count(c) { ++count; }
      ~Counted() { --count; }
      std::atomic<int>& count;
    } counted(posted);
    std::lock_guard lock(service);
    return f();
  }
};

}  // namespace datacloud
