// The thread pool's queue. Whoever posts wakes a thread while holding the lock: the task may be the
// last one its owner waits for, and the pool may be gone as soon as the lock is free.
#include "common/base/executor.h"

#include <utility>

namespace datacloud {

Executor::Executor(int threads, size_t queue_max) : queue_max_(queue_max) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
}

Executor::~Executor() { finish(); }

void Executor::finish() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  work_.notify_all();
  for (auto& t : threads_)
    if (t.joinable()) t.join();
}

void Executor::submit(std::function<void()> task) {
  std::unique_lock lock(mutex_);
  room_.wait(lock, [this] { return queue_.size() < queue_max_; });
  queue_.push_back(std::move(task));
  work_.notify_one();
}

void Executor::post(std::function<void()> task) {
  std::lock_guard lock(mutex_);
  queue_.push_back(std::move(task));
  work_.notify_one();
}

void Executor::run() {
  for (;;) {
    std::function<void()> task;
    {
      std::unique_lock lock(mutex_);
      work_.wait(lock, [this] { return stop_ || !queue_.empty(); });
      if (queue_.empty()) return;
      task = std::move(queue_.front());
      queue_.pop_front();
    }
    room_.notify_one();
    task();
  }
}

}  // namespace datacloud
