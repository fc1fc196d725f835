// The thread everything in the service runs on, as a seam: the RPC server's thread in the daemon,
// a hand-driven one in tests.
//
// It outlives every store and site that may still answer: what is posted after the thread has ended
// is dropped.
#pragma once

#include <functional>

#include "common/base/clock.h"

namespace datacloud {

class EventLoop {
 public:
  virtual ~EventLoop() = default;
  virtual void post(std::function<void()>) = 0;             // from any thread
  virtual void after(Duration, std::function<void()>) = 0;  // one shot, from any thread
  virtual MonotonicTime now() = 0;
};

}  // namespace datacloud
