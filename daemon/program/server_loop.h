// The RPC server's thread as an EventLoop that is there before the server, and survives it.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include "common/rpc/rpc.h"
#include "daemon/loop/event_loop.h"

namespace datacloud {

class ServerLoop final : public EventLoop {
 public:
  void attach(RpcServer* server) {
    std::lock_guard lock(mutex_);
    server_ = server;
    for (auto& f : early_) server->post(std::move(f));
    for (auto& [delay, f] : early_timers_) server->after(delay, std::move(f));
    early_.clear();
    early_timers_.clear();
  }
  // Waits for those that run_or_post() runs.
  void close() {
    std::unique_lock lock(mutex_);
    server_ = nullptr;
    closed_ = true;
    idle_.wait(lock, [this] { return running_ == 0; });
  }
  void post(std::function<void()> f) override {
    std::lock_guard lock(mutex_);
    if (server_ != nullptr) return server_->post(std::move(f));
    if (!closed_) early_.push_back(std::move(f));
  }
  void run_or_post(std::function<void()> f) override {
    RpcServer* server = nullptr;
    {
      std::lock_guard lock(mutex_);
      server = server_;
      if (server == nullptr) {
        if (!closed_) early_.push_back(std::move(f));
        return;
      }
      ++running_;
    }
    server->run_or_post(std::move(f));  // which may come back here
    std::lock_guard lock(mutex_);
    if (--running_ == 0) idle_.notify_all();
  }
  void after(Duration delay, std::function<void()> f) override {
    std::lock_guard lock(mutex_);
    if (server_ != nullptr) return server_->after(delay, std::move(f));
    if (!closed_) early_timers_.emplace_back(delay, std::move(f));
  }
  MonotonicTime now() override { return monotonic_now(); }

 private:
  std::mutex mutex_;
  RpcServer* server_ = nullptr;
  bool closed_ = false;
  int running_ = 0;  // threads within run_or_post()
  std::condition_variable idle_;
  std::vector<std::function<void()>> early_;
  std::vector<std::pair<Duration, std::function<void()>>> early_timers_;
};

}  // namespace datacloud
