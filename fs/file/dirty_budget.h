// The bound on plain bytes that are dirty or being written: writers wait here, flushes make room.
// Thread safety: all methods from any thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>

#include "common/base/clock.h"
#include "common/base/error.h"

namespace datacloud {

class DirtyBudget {
 public:
  explicit DirtyBudget(uint64_t bytes_max) : bytes_max_(bytes_max) {}

  // Waits until `bytes` more fit (one writer may always exceed an empty budget). `stuck` is asked
  // before waiting and now and then whether that is hopeless; its error ends the wait.
  result<void> wait_for_room(uint64_t bytes, const std::function<result<void>()>& stuck);
  void add(uint64_t bytes);
  void remove(uint64_t bytes);
  uint64_t used() const;
  bool under_pressure() const;  // above half

 private:
  const uint64_t bytes_max_;
  mutable std::mutex mutex_;
  std::condition_variable_any room_;
  uint64_t used_ = 0;
};

}  // namespace datacloud
