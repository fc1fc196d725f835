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
  waiting_.emplace(id, std::move(function));
  const bool earlier = when < looks_at_;
  if (earlier) looks_at_ = MonotonicTime::min();  // woken once, however many follow
  lock.unlock();
  if (earlier) wake_.notify_one();
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
      looks_at_ = MonotonicTime::max();
      wake_.wait(lock);
      looks_at_ = MonotonicTime::min();
      continue;
    }
    const auto first = waiting_.begin();
    if (!stop_ && first->first.first > monotonic_now()) {
      const MonotonicTime until = looks_at_ = first->first.first;
      wake_.wait_until(lock, until);
      looks_at_ = MonotonicTime::min();
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
