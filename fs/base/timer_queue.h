// One-shot timers on one thread: closing a stripe that nobody fills any more, grace for slow
// shards, deadlines. There is no cancel: a timer holds a weak_ptr to what it is for and finds it
// gone.
//
// Thread safety: after() from any thread, also after stop(), which drops what has not run and
// joins. Not to be stopped or destroyed unstopped on the timer's own thread.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "common/base/clock.h"

namespace datacloud {

class TimerQueue {
 public:
  TimerQueue();
  ~TimerQueue();
  TimerQueue(const TimerQueue&) = delete;
  TimerQueue& operator=(const TimerQueue&) = delete;

  // `task` runs on the timer's thread and must not block.
  void after(Duration delay, std::function<void()> task);
  void stop();

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::multimap<MonotonicTime, std::function<void()>> tasks_;
  // When the thread looks at the queue by itself; min(): it is not asleep, and will look. Only an
  // earlier task wakes it.
  MonotonicTime looks_at_ = MonotonicTime::min();
  bool stop_ = false;
  std::thread thread_;  // last: uses the above
};

}  // namespace datacloud
