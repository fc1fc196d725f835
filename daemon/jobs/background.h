// Threads of the background work: repair, audit, folding. They may block, unlike the service.
//
// A job reads and writes at the sites by itself and touches metadata only through on_loop(), which
// runs a function on the service's thread and waits for its answer. Work on one stripe is
// serialised by StripeLocks; each site's bytes and operations are limited by spend().
//
// Memory: jobs are as many as there are threads. One that repairs holds what one move reads and
// makes (the shards of one stripe or of one column of a group, rarely those of a whole group), one
// that merges as much as it reads and one new stripe (fold_scheduler.cc: 48 MiB, or one stripe if
// larger).
//
// Shutdown: stop() makes every on_loop answer unavailable. It must be called only when the loop no
// longer runs anything, so that a function may refer to what its waiting caller owns.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/ids.h"
#include "common/base/time_windows.h"
#include "daemon/loop/event_loop.h"

namespace datacloud {

class Background {
 public:
  struct Limits {
    int threads = 4;
    uint64_t site_bytes_per_second_max = 0;       // both directions together; 0: no limit
    uint64_t site_operations_per_second_max = 0;  // requests to the site's store; 0: no limit
    TimeWindows windows;                          // outside of them the next limit holds as well
    uint64_t outside_bytes_per_second_max = 1u << 20;
    std::function<std::tm()> local_time;  // empty: the machine's
  };
  Background(std::shared_ptr<EventLoop>, Limits);
  ~Background();
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  void stop();
  bool stopping() const { return state_->stopping; }
  // Jobs run in the order given. Callers bound how many they give.
  void submit(std::function<void()> job);
  // The same for jobs that somebody waits for and that are not to wait for paused or limited work:
  // they have threads of their own.
  void submit_prompt(std::function<void()> job);

  // For jobs. Runs `f` on the loop; unavailable once stopped.
  template <class T>
  result<T> on_loop(std::function<result<T>()> f) {
    return await<T>([f = std::move(f)](std::function<void(result<T>)> done) { done(f()); });
  }
  // The same for a function that answers later, on the loop.
  template <class T>
  result<T> await(std::function<void(std::function<void(result<T>)>)> start) {
    auto answer = std::make_shared<std::optional<result<T>>>();
    loop_->post([state = state_, answer, start = std::move(start)] {
      start([state, answer](result<T> r) {
        std::lock_guard lock(state->mutex);
        answer->emplace(std::move(r));
        state->changed.notify_all();
      });
    });
    std::unique_lock lock(state_->mutex);
    state_->changed.wait(lock, [&] { return answer->has_value() || state_->stopping; });
    if (!answer->has_value()) return failure(Errc::unavailable, "the daemon is stopping");
    return std::move(**answer);
  }

  // For jobs. Waits until the site's budgets allow so much more, and while work is paused or held.
  void spend(SiteId, uint64_t bytes, uint32_t operations = 1);
  // From any thread: what mounts moved within the last `span`. It draws upon the same budgets, so
  // that background work has what mounts leave of them, and an eighth of the time at least.
  void foreground(SiteId, uint64_t bytes, uint64_t operations, Duration span);
  // For jobs: at most half of the threads (at least one) read for repairs at a time. Readers share
  // the links. Without turns all jobs would read together and then write together, and each
  // direction of the links would be idle half of the time. ReadingTurn holds one.
  void begin_reading();
  void end_reading();
  // For jobs: sleeps, or until stop().
  void sleep(Duration);
  void pause(bool);
  // The same, by the daemon itself: the disk of the metadata is full.
  void hold(bool);
  bool paused() const { return state_->paused; }
  void set_limit(uint64_t site_bytes_per_second_max);
  uint64_t limit() const { return rate_; }
  void set_operations_limit(uint64_t per_second) { operations_rate_ = per_second; }
  uint64_t operations_limit() const { return operations_rate_; }
  bool window_open() const;
  uint64_t outside_limit() const { return outside_rate_; }
  // What holds now: the limit, and outside of the windows theirs if it is less. 0: none.
  uint64_t current_limit() const;

  // A stripe that background work holds; false when another job has it.
  bool lock_stripe(StripeId);
  void unlock_stripe(StripeId);

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    std::atomic<bool> stopping{false}, paused{false}, held{false};
  };
  using Jobs = std::deque<std::function<void()>>;
  void work(Jobs&);
  using Balances = std::map<SiteId, MonotonicTime>;  // when the site's budget is in balance
  static MonotonicTime draw(Balances&, SiteId, uint64_t amount, uint64_t rate);

  const std::shared_ptr<EventLoop> loop_;
  const std::shared_ptr<State> state_;
  Jobs jobs_, prompt_jobs_;
  int reading_left_;
  Balances bytes_free_at_, operations_free_at_;
  std::atomic<uint64_t> rate_, operations_rate_;
  const TimeWindows windows_;
  const uint64_t outside_rate_;
  const std::function<std::tm()> local_time_;
  std::set<StripeId> locked_;
  std::vector<std::thread> threads_;
};

// A turn for the life of this object.
class ReadingTurn {
 public:
  explicit ReadingTurn(Background& background) : background_(background) {
    background_.begin_reading();
  }
  ~ReadingTurn() { background_.end_reading(); }
  ReadingTurn(const ReadingTurn&) = delete;
  ReadingTurn& operator=(const ReadingTurn&) = delete;

 private:
  Background& background_;
};

// A stripe held for the life of this object.
class StripeLock {
 public:
  StripeLock(Background& background, StripeId stripe)
      : background_(background), stripe_(stripe), held_(background.lock_stripe(stripe)) {}
  ~StripeLock() {
    if (held_) background_.unlock_stripe(stripe_);
  }
  StripeLock(const StripeLock&) = delete;
  StripeLock& operator=(const StripeLock&) = delete;
  explicit operator bool() const { return held_; }

 private:
  Background& background_;
  const StripeId stripe_;
  const bool held_;
};

}  // namespace datacloud
