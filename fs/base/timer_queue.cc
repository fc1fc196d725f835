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
    const auto due = monotonic_now() + delay;
    tasks_.emplace(due, std::move(task));
    if (due >= looks_at_) return;
    looks_at_ = MonotonicTime::min();  // woken once, however many follow
  }
  wake_.notify_all();
}

void TimerQueue::run() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    if (tasks_.empty()) {
      looks_at_ = MonotonicTime::max();
      wake_.wait(lock);
      looks_at_ = MonotonicTime::min();
      continue;
    }
    const auto due = looks_at_ = tasks_.begin()->first;
    if (monotonic_now() < due) {
      wake_.wait_until(lock, due);
      looks_at_ = MonotonicTime::min();
      continue;
    }
    looks_at_ = MonotonicTime::min();
    auto task = std::move(tasks_.begin()->second);
    tasks_.erase(tasks_.begin());
    lock.unlock();
    task();
    task = nullptr;  // what it holds is released without the lock
    lock.lock();
  }
}

}  // namespace datacloud
