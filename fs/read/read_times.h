// How long sites take to answer reads, and from when on a read is late and raced by a decode.
//
// A read of a site is late after kFactor times what the k-th fastest other site, which the decode
// would wait for, needs for kPercent of its reads of that size; never before kPatienceMin, so that
// traffic is not spent on little, and at the latest after hedge_after_ms, which also holds while
// too few answers are known. A site whose usual answer is later than that is left alone as long as
// the others suffice, but for one read each kProbeEvery, which shows whether it is still so.
// hedge_after_ms at or above read_deadline_ms: never raced.
// Sites may join and leave meanwhile: the set of sites says which count.
// Thread safety: all methods from any thread.
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

#include "common/base/clock.h"
#include "common/config/config.h"
#include "common/site/site_set.h"

namespace datacloud {

class ReadTimes {
 public:
  static constexpr int kFactor = 3;
  static constexpr int kPercent = 95;
  static constexpr milliseconds kPatienceMin{50};
  static constexpr seconds kProbeEvery{1};
  static constexpr size_t kAnswersMax = 64;  // remembered per site and size
  static constexpr size_t kAnswersMin = 16;  // before anything is concluded

  ReadTimes(SiteSet&, const MountConfig&);

  void answered(SiteId, uint64_t bytes, Duration took);
  // After which time a read of `bytes` at the site is late, when a decode takes k shards.
  Duration patience(SiteId, uint64_t bytes, int k) const;
  // Whether a read at the site would usually be late.
  bool usually_late(SiteId, uint64_t bytes, int k) const;
  // Whether such a site is to be asked all the same: once each kProbeEvery, and on as long as it
  // answers in half its usual time.
  bool probe(SiteId, MonotonicTime now);

 private:
  static constexpr int kSizes = 3;
  // The last answers to reads of one size.
  struct Answers {
    std::array<Duration, kAnswersMax> took{};
    size_t count = 0;            // ever
    Duration median{}, usual{};  // usual: kPercent of them took at most this
    void add(Duration);
  };
  struct Times {
    mutable std::mutex mutex;
    std::array<Answers, kSizes> by_size;
    MonotonicTime probed{};
    bool quicker = false;  // its last answer was: it may have recovered
  };
  static size_t size_class(uint64_t bytes);
  Times* known(SiteId) const;  // null: it has not answered yet

  const Duration latest_;
  const bool off_;
  SiteSet& sites_;
  mutable std::shared_mutex mutex_;
  std::unordered_map<SiteId, std::unique_ptr<Times>> times_;  // of sites that ever were in the set
};

}  // namespace datacloud
