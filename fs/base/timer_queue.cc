// The timer thread: sleeps until the earliest task is due.
#include "fs/base/timer_queue.h"

#include <utility>

namespace datacloud {

TimerQueue::TimerQueue() : thread_([this] { run(); }) {}

TimerQueue::~TimerQueue() { stop(); }

void TimerQueue::stop() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  tasks_.clear();
}

void TimerQueue::after(Duration delay, std::function<void()> task) {
  {
    std::lock_guard lock(mutex_);
    if (stop_) return;
    tasks_.emplace(monotonic_now() + delay, std::move(task));
  }
  wake_.notify_all();
}

void TimerQueue::run() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    if (tasks_.empty()) {
      wake_.wait(lock);
      continue;
    }
    const auto due = tasks_.begin()->first;
    if (monotonic_now() < due) {
      wake_.wait_until(lock, due);
      continue;
    }
    auto task = std::move(tasks_.begin()->second);
    tasks_.erase(tasks_.begin());
    lock.unlock();
    task();
    task = nullptr;  // what it holds is released without the lock
    lock.lock();
  }
}

}  // namespace datacloud
