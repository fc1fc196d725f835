// How long the leader of a journal may answer: step 12 of docs/journal.md.
//
// A site that shows this leader's promise in force confirms the lease, as of the moment at which it
// was asked. The lease lasts until `length` after the q-th newest of these moments. A claimer waits
// for kClaimerPatience times the length after its promise stood at S - q + 1 sites: as these and
// any q sites have one in common, which had confirmed before it promised, no old leader answers any
// more by then.
//
// Times are of a clock that goes on while the machine is suspended. Nothing here does I/O.
//
// Threading: all methods from any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <vector>

#include "common/base/clock.h"

namespace datacloud {

// CLOCK_BOOTTIME.
struct BootClock {
  using duration = Duration;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<BootClock>;
  static constexpr bool is_steady = true;
  static time_point now();
};
using BootTime = BootClock::time_point;

// Clocks of two machines may differ in speed by ten per cent.
constexpr Duration claimer_patience(Duration length) { return length + length / 10; }

class LeaderLease {
 public:
  using Clock = std::function<BootTime()>;
  // `commit`: q of the sites. A length of 0: no lease is kept, and it always holds.
  LeaderLease(size_t sites, size_t commit, Duration length, Clock clock = BootClock::now);

  // Another length from now on. A longer one only once claimers are sure to know of it.
  void set_length(Duration);
  Duration length() const;
  // A site has answered a question that was sent at that moment: no higher epoch was promised.
  void confirm(size_t site, BootTime asked);
  // Whether an answer may be given now.
  bool holds() const;
  // It never holds again, whatever sites say: the leadership was given up or lost.
  void end();
  // When the site last confirmed; the clock's beginning: never.
  BootTime confirmed_at(size_t site) const;
  BootTime now() const { return clock_(); }

 private:
  void count();  // with the mutex held: until_ anew

  const size_t commit_;
  const Clock clock_;
  mutable std::mutex mutex_;
  Duration length_;
  std::vector<BootTime> confirmed_;  // by site
  bool ended_ = false;
  std::atomic<Duration> until_;  // since the clock's beginning: asked for every answer
};

}  // namespace datacloud
