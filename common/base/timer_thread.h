// One thread that runs functions at their time: deadlines and injected delays.
//
// Functions run on the timer's thread and must not block. Destruction runs everything that is still
// waiting, at once, so that nobody who waits for such a function waits forever.
//
// Most deadlines are cancelled long before their time and each lies behind the ones before it: the
// thread sleeps on until the earliest that it knew of, and only an earlier one wakes it.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "common/base/clock.h"

namespace datacloud {

class TimerThread {
 public:
  using Id = std::pair<MonotonicTime, uint64_t>;

  TimerThread();
  ~TimerThread();
  TimerThread(const TimerThread&) = delete;
  TimerThread& operator=(const TimerThread&) = delete;

  Id schedule(MonotonicTime, std::function<void()>);
  // Drops a function that has not started; one that has may be running still.
  void cancel(const Id&);

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::map<Id, std::function<void()>> waiting_;
  uint64_t next_ = 0;
  // When the thread looks at the queue by itself; min(): it is not asleep, and will look.
  MonotonicTime looks_at_ = MonotonicTime::min();
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace datacloud
