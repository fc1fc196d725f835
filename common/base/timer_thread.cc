// The timer's queue, ordered by time.
#include "common/base/timer_thread.h"

namespace datacloud {

TimerThread::TimerThread() : thread_([this] { run(); }) {}

TimerThread::~TimerThread() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

TimerThread::Id TimerThread::schedule(MonotonicTime when, std::function<void()> function) {
  std::unique_lock lock(mutex_);
  const Id id{when, next_++};
  // Two statements: begin() must be looked up after the insertion.
  const auto inserted = waiting_.emplace(id, std::move(function)).first;
  const bool first = inserted == waiting_.begin();
  lock.unlock();
  if (first) wake_.notify_one();
  return id;
}

void TimerThread::cancel(const Id& id) {
  std::function<void()> dropped;  // destroyed outside the lock
  std::lock_guard lock(mutex_);
  auto it = waiting_.find(id);
  if (it == waiting_.end()) return;
  dropped = std::move(it->second);
  waiting_.erase(it);
}

void TimerThread::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (waiting_.empty()) {
      if (stop_) return;
      wake_.wait(lock);
      continue;
    }
    const auto first = waiting_.begin();
    if (!stop_ && first->first.first > monotonic_now()) {
      const MonotonicTime until = first->first.first;
      wake_.wait_until(lock, until);
      continue;
    }
    auto function = std::move(first->second);
    waiting_.erase(first);
    lock.unlock();
    function();
    function = nullptr;
    lock.lock();
  }
}

}  // namespace datacloud
