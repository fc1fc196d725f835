// How fast background queues are worked off, over the last minute: for `status`.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>

#include "common/base/clock.h"

namespace datacloud {

// What has been done of each kind since the daemon's start.
enum class QueueKind : size_t { repair, deletions, audit, fold };
inline constexpr size_t kQueueKinds = 4;
using QueueCounts = std::array<uint64_t, kQueueKinds>;

class QueueRates {
 public:
  // Now and then, in order of time; more often than every kStep is ignored.
  void sample(MonotonicTime now, const QueueCounts& done) {
    if (!samples_.empty() && now - samples_.back().at < kStep) return;
    samples_.push_back({now, done});
    while (samples_.size() > 2 && now - samples_[1].at >= kSpan) samples_.pop_front();
  }
  // Per second, 0 while too little is known.
  double rate(QueueKind kind) const {
    if (samples_.size() < 2) return 0;
    const auto& first = samples_.front();
    const auto& last = samples_.back();
    const std::chrono::duration<double> span = last.at - first.at;
    const auto i = static_cast<size_t>(kind);
    return static_cast<double>(last.done[i] - first.done[i]) / span.count();
  }

 private:
  static constexpr auto kStep = seconds(1);
  static constexpr auto kSpan = seconds(60);
  struct Sample {
    MonotonicTime at;
    QueueCounts done;
  };
  std::deque<Sample> samples_;  // at most kSpan / kStep + 1
};

}  // namespace datacloud
