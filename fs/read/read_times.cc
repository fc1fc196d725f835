// Running percentiles of read times per site (read_times.h).
#include "fs/read/read_times.h"

#include <algorithm>
#include <vector>

namespace datacloud {
namespace {

constexpr size_t kRecomputeEvery = 8;  // answers; sorting for each would cost more than it tells
constexpr uint64_t kSmallBytesMax = 128u << 10, kMediumBytesMax = 1u << 20;

}  // namespace

ReadTimes::ReadTimes(SiteSet& sites, const MountConfig& config)
    : latest_(milliseconds(std::min(config.hedge_after_ms, config.read_deadline_ms))),
      off_(config.hedge_after_ms >= config.read_deadline_ms),
      sites_(sites) {}

ReadTimes::Times* ReadTimes::known(SiteId site) const {
  std::shared_lock lock(mutex_);
  const auto it = times_.find(site);
  return it == times_.end() ? nullptr : it->second.get();
}

size_t ReadTimes::size_class(uint64_t bytes) {
  return bytes <= kSmallBytesMax ? 0 : bytes <= kMediumBytesMax ? 1 : 2;
}

void ReadTimes::Answers::add(Duration duration) {
  took[count++ % kAnswersMax] = duration;
  if (count < kAnswersMin || count % kRecomputeEvery != 0) return;
  const size_t known = std::min(count, kAnswersMax);
  auto sorted = took;
  std::sort(sorted.begin(), sorted.begin() + static_cast<ptrdiff_t>(known));
  median = sorted[known / 2];
  usual = sorted[known * kPercent / 100];
}

void ReadTimes::answered(SiteId site, uint64_t bytes, Duration took) {
  Times* times = known(site);
  if (times == nullptr) {
    if (sites_.find(site) == nullptr) return;
    std::lock_guard lock(mutex_);
    auto& added = times_[site];
    if (!added) added = std::make_unique<Times>();
    times = added.get();
  }
  std::lock_guard lock(times->mutex);
  Answers& answers = times->by_size[size_class(bytes)];
  times->quicker = 2 * took <= answers.median;
  answers.add(took);
}

Duration ReadTimes::patience(SiteId site, uint64_t bytes, int k) const {
  if (off_) return latest_;
  std::vector<Duration> others;
  for (Site* other : sites_.all()) {
    if (other->id() == site) continue;
    others.push_back(latest_);
    const Times* times = known(other->id());
    if (times == nullptr) continue;
    std::lock_guard lock(times->mutex);
    const Answers& answers = times->by_size[size_class(bytes)];
    if (answers.count >= kAnswersMin) others.back() = answers.usual;
  }
  if (others.empty()) return latest_;
  const auto kth = others.begin() + std::min<ptrdiff_t>(k, std::ssize(others)) - 1;
  std::nth_element(others.begin(), kth, others.end());
  return std::min(latest_, std::max<Duration>(kPatienceMin, *kth * kFactor));
}

bool ReadTimes::usually_late(SiteId site, uint64_t bytes, int k) const {
  const Times* times = known(site);
  if (off_ || times == nullptr) return false;
  Duration median;
  {
    std::lock_guard lock(times->mutex);
    median = times->by_size[size_class(bytes)].median;
  }
  return median > kPatienceMin && median > patience(site, bytes, k);
}

bool ReadTimes::probe(SiteId site, MonotonicTime now) {
  Times* times = known(site);
  if (times == nullptr) return true;
  std::lock_guard lock(times->mutex);
  if (!times->quicker && times->probed + kProbeEvery > now) return false;
  times->probed = now;
  return true;
}

}  // namespace datacloud
