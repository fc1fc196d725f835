// Running percentiles of read times per site (read_times.h).
#include "fs/read_times.h"

#include <algorithm>
#include <vector>

namespace datacloud {
namespace {

constexpr size_t kRecomputeEvery = 8;  // answers; sorting for each would cost more than it tells
constexpr uint64_t kSmallBytesMax = 128u << 10, kMediumBytesMax = 1u << 20;

}  // namespace

ReadTimes::ReadTimes(SiteSet& sites, const MountConfig& config)
    : latest_(milliseconds(std::min(config.hedge_after_ms, config.read_deadline_ms))),
      off_(config.hedge_after_ms >= config.read_deadline_ms) {
  for (Site* site : sites.all()) sites_.emplace(site->id(), std::make_unique<Times>());
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
  const auto it = sites_.find(site);
  if (it == sites_.end()) return;
  std::lock_guard lock(it->second->mutex);
  Answers& answers = it->second->by_size[size_class(bytes)];
  it->second->quicker = 2 * took <= answers.median;
  answers.add(took);
}

Duration ReadTimes::patience(SiteId site, uint64_t bytes, int k) const {
  if (off_) return latest_;
  std::vector<Duration> others;
  for (const auto& [id, times] : sites_) {
    if (id == site) continue;
    std::lock_guard lock(times->mutex);
    const Answers& answers = times->by_size[size_class(bytes)];
    others.push_back(answers.count < kAnswersMin ? latest_ : answers.usual);
  }
  if (others.empty()) return latest_;
  const auto kth = others.begin() + std::min<ptrdiff_t>(k, std::ssize(others)) - 1;
  std::nth_element(others.begin(), kth, others.end());
  return std::min(latest_, std::max<Duration>(kPatienceMin, *kth * kFactor));
}

bool ReadTimes::usually_late(SiteId site, uint64_t bytes, int k) const {
  const auto it = sites_.find(site);
  if (off_ || it == sites_.end()) return false;
  Duration median;
  {
    std::lock_guard lock(it->second->mutex);
    median = it->second->by_size[size_class(bytes)].median;
  }
  return median > kPatienceMin && median > patience(site, bytes, k);
}

bool ReadTimes::probe(SiteId site, MonotonicTime now) {
  const auto it = sites_.find(site);
  if (it == sites_.end()) return true;
  std::lock_guard lock(it->second->mutex);
  if (!it->second->quicker && it->second->probed + kProbeEvery > now) return false;
  it->second->probed = now;
  return true;
}

}  // namespace datacloud
