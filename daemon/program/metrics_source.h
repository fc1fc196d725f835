// Brings the daemon's state to the exporter's threads: asks the service on its own thread, waits a
// bounded time, and asks less often when the answer is expensive (its counts scan all stripes).
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>

#include "common/site/metrics.h"
#include "daemon/loop/event_loop.h"

namespace datacloud {

class MetricsSource : public std::enable_shared_from_this<MetricsSource> {
 public:
  // Starts a question on the service's thread; the answer may come at any later time, or never.
  using Answer = std::function<void(Metrics)>;
  using Ask = std::function<void(Answer)>;
  explicit MetricsSource(Ask ask) : ask_(std::move(ask)) {}

  // From any thread. The last answer while it is fresh enough: as long as ten times what it took to
  // get. Empty when there has been none in five seconds: the scrape then shows no number rather
  // than an old one.
  Metrics get();
  // No more waiting: every get() returns at once.
  void close();

 private:
  void answered(uint64_t question, Metrics);

  static constexpr auto kPatience = seconds(5);
  static constexpr auto kFreshMax = seconds(60);
  const Ask ask_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  bool asking_ = false, closed_ = false;
  MonotonicTime asked_{}, fresh_until_{};
  uint64_t questions_ = 0, answers_ = 0;
  Metrics last_;
};

}  // namespace datacloud
