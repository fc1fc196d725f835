// Where posted functions and timers of the service run, as a seam: the RPC server's loop in the
// daemon, a hand-driven one in tests. Requests may run on other threads, but never while one of
// these does: everything in the service happens one thing at a time.
//
// It outlives every store and site that may still answer: what is posted after the thread has ended
// is dropped.
#pragma once

#include <functional>
#include <utility>

#include "common/base/clock.h"

namespace datacloud {

class EventLoop {
 public:
  virtual ~EventLoop() = default;
  virtual void post(std::function<void()>) = 0;  // from any thread
  // From a thread that is neither the loop's nor calls the service, and that holds no lock the
  // service may want: as post(), but while nothing else waits `f` may run at once, on this thread.
  // Saves waking another. For what is short.
  virtual void run_or_post(std::function<void()> f) { post(std::move(f)); }
  virtual void after(Duration, std::function<void()>) = 0;  // one shot, from any thread
  virtual MonotonicTime now() = 0;
};

}  // namespace datacloud
