// Asking and waiting for metrics (metrics_source.h).
#include "daemon/program/metrics_source.h"

#include <algorithm>

namespace datacloud {

Metrics MetricsSource::get() {
  std::unique_lock lock(mutex_);
  if (closed_) return {};
  if (monotonic_now() < fresh_until_) return last_;
  if (!asking_) {
    asking_ = true;
    asked_ = monotonic_now();
    const uint64_t question = ++questions_;
    lock.unlock();
    ask_([weak = weak_from_this(), question](Metrics metrics) {
      if (auto self = weak.lock()) self->answered(question, std::move(metrics));
    });
    lock.lock();
  }
  const uint64_t wanted = questions_;
  if (!arrived_.wait_for(lock, kPatience, [&] { return closed_ || answers_ >= wanted; })) return {};
  return last_;
}

void MetricsSource::close() {
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }
  arrived_.notify_all();
}

void MetricsSource::answered(uint64_t question, Metrics metrics) {
  {
    std::lock_guard lock(mutex_);
    const auto now = monotonic_now();
    answers_ = std::max(answers_, question);
    last_ = std::move(metrics);
    fresh_until_ = now + std::min<Duration>(10 * (now - asked_), kFreshMax);
    asking_ = false;
  }
  arrived_.notify_all();
}

}  // namespace datacloud
