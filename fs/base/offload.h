// CPU work of those that must not block, such as callbacks of stores and timers: run on an executor
// while there is one, else by the caller.
//
// Thread safety: all methods from any thread. What was accepted before close() runs before the
// executor is destroyed.
#pragma once

#include <functional>
#include <mutex>

#include "common/base/executor.h"

namespace datacloud {

class Offload {
 public:
  // `executor` must live until close() has returned.
  void open(Executor& executor) {
    std::lock_guard lock(mutex_);
    executor_ = &executor;
  }
  void close() {
    std::lock_guard lock(mutex_);
    executor_ = nullptr;
  }
  void run(std::function<void()> task) {
    {
      std::lock_guard lock(mutex_);
      if (executor_ != nullptr) return executor_->post(std::move(task));
    }
    task();
  }

 private:
  std::mutex mutex_;
  Executor* executor_ = nullptr;
};

}  // namespace datacloud
