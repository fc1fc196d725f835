// The timer's thread sleeps until the earliest time that it knows of: an earlier one wakes it, and
// neither a later one nor a cancelled one makes it forget the others.
#include "common/base/timer_thread.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/support/seeded.h"

namespace datacloud {
namespace {

class Ran {
 public:
  void note(int which) {
    std::lock_guard lock(mutex_);
    order_.push_back(which);
    changed_.notify_all();
  }
  bool wait_for(size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, seconds(30), [&] { return order_.size() >= count; });
  }
  std::vector<int> order() {
    std::lock_guard lock(mutex_);
    return order_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int> order_;
};

TEST(TimerThread, AnEarlierTimeWakesIt) {
  Ran ran;
  TimerThread timer;
  const auto far = timer.schedule(monotonic_now() + seconds(3600), [&] { ran.note(0); });
  timer.schedule(monotonic_now() + milliseconds(20), [&] { ran.note(1); });
  ASSERT_TRUE(ran.wait_for(1));
  timer.cancel(far);  // it sleeps on until then
  timer.schedule(monotonic_now() + milliseconds(5), [&] { ran.note(2); });
  ASSERT_TRUE(ran.wait_for(2));
  EXPECT_EQ(ran.order(), (std::vector<int>{1, 2}));
}

TEST(TimerThread, LaterAndCancelledTimesLeaveTheOthers) {
  Ran ran;
  TimerThread timer;
  const auto now = monotonic_now();
  const auto first = timer.schedule(now + milliseconds(30), [&] { ran.note(1); });
  timer.schedule(now + milliseconds(40), [&] { ran.note(2); });
  timer.schedule(now + seconds(3600), [&] { ran.note(3); });
  timer.cancel(first);
  ASSERT_TRUE(ran.wait_for(1));
  EXPECT_GE(monotonic_now(), now + milliseconds(40));
  EXPECT_EQ(ran.order(), (std::vector<int>{2}));
}

TEST(TimerThread, TheEndRunsWhatWaits) {
  Ran ran;
  {
    TimerThread timer;
    timer.schedule(monotonic_now() + seconds(3600), [&] { ran.note(1); });
    timer.schedule(monotonic_now() + seconds(7200), [&] { ran.note(2); });
  }
  EXPECT_EQ(ran.order(), (std::vector<int>{1, 2}));
}

TEST(TimerThread, AllRunOnceAndNotBeforeTheirTime) {
  Seeded random;
  std::atomic<int> left{0}, early{0};
  TimerThread timer;
  for (int i = 0; i < 2000; ++i) {
    const auto when = monotonic_now() + std::chrono::microseconds(random.number(0, 30'000));
    ++left;
    timer.schedule(when, [&, when] {
      if (monotonic_now() < when) ++early;
      --left;
    });
    if (random.number(0, 3) == 0) {
      // One that lies further off, and most often is cancelled: a deadline.
      const auto deadline = timer.schedule(monotonic_now() + seconds(3600), [] {});
      timer.cancel(deadline);
    }
  }
  const auto end = monotonic_now() + seconds(30);
  while (left > 0 && monotonic_now() < end) std::this_thread::sleep_for(milliseconds(1));
  EXPECT_EQ(left, 0);
  EXPECT_EQ(early, 0);
}

}  // namespace
}  // namespace datacloud
