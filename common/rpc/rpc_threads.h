// The threads of the RPC server that move bytes: TLS, parsing and encoding, for connections that
// are spread over them. A connection stays on its thread for life, so that nothing of it needs a
// lock but what it shares with the service.
#pragma once

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "common/base/asio.h"

namespace datacloud {

// One of them.
struct RpcThread {
  std::atomic<size_t> connections{0};  // handshakes included
  boost::asio::io_context io{1};       // destroyed before the counter, which what waits in it uses
  std::thread thread;
};

// Counts a connection of a thread as long as it lives.
class RpcThreadUse {
 public:
  explicit RpcThreadUse(RpcThread& thread) : thread_(&thread) { ++thread_->connections; }
  ~RpcThreadUse() { --thread_->connections; }
  RpcThreadUse(const RpcThreadUse&) = delete;
  RpcThreadUse& operator=(const RpcThreadUse&) = delete;
  RpcThread& thread() const { return *thread_; }
  boost::asio::io_context& io() const { return thread_->io; }

 private:
  RpcThread* const thread_;
};

class RpcThreads {
 public:
  explicit RpcThreads(size_t count);
  ~RpcThreads() { stop(); }
  void start();
  // Joins them: nothing of a connection runs afterwards.
  void stop();
  size_t count() const { return threads_.size(); }
  // Whether this is one of some server's.
  static bool inside();
  // The one with the fewest connections.
  RpcThread& least_used();

 private:
  std::vector<std::unique_ptr<RpcThread>> threads_;
};

}  // namespace datacloud
