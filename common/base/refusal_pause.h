// What has been refused for want of room, so that whoever wants as much again is told at once and
// without trying: for a pause that doubles while the refusals go on. After each pause one more is
// tried, so that new room is found without anybody being asked for it.
//
// Refusals are remembered by size: smaller things may still fit. Invariant: after accepted(bytes)
// nothing of up to that many bytes is refused from memory.
//
// Thread safety: all methods from any thread; none blocks for long.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>

#include "common/base/clock.h"
#include "common/base/error.h"

namespace datacloud {

class RefusalPause {
 public:
  static constexpr Duration kFirst = seconds(1), kMax = seconds(4);

  // True when nothing was refused before.
  bool refused(uint64_t bytes, const Error&);
  // True when that ends a refusal.
  bool accepted(uint64_t bytes);
  // The refusal, while so many bytes are not worth trying.
  std::optional<Error> lasting(uint64_t bytes) const;

 private:
  static constexpr uint64_t kNone = UINT64_MAX;

  std::atomic<uint64_t> bytes_{kNone};  // the least that was refused
  mutable std::mutex mutex_;
  Error error_;
  Duration pause_{};
  MonotonicTime until_{};
};

}  // namespace datacloud
