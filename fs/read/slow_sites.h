// Which sites have stopped answering, before their calls have timed out.
//
// A site is slow for kSlowFor once a call to it is overdue and it has answered nothing since that
// call was made; any answer ends that. Reads then prefer other columns at once, instead of waiting
// for the hedge each time. Only advice: correctness never depends on it.
// Thread safety: all methods from any thread.
#pragma once

#include <atomic>
#include <unordered_map>

#include "common/base/clock.h"
#include "common/site/site_set.h"

namespace datacloud {

class SlowSites {
 public:
  static constexpr seconds kSlowFor{5};

  explicit SlowSites(SiteSet& sites) {
    for (Site* site : sites.all()) marks_[site->id()];
  }

  void answered(SiteId id, MonotonicTime now) {
    if (Mark* mark = find(id)) {
      mark->last_answer = ticks(now);
      mark->slow_until = 0;
    }
  }
  void overdue(SiteId id, MonotonicTime issued, MonotonicTime now) {
    Mark* mark = find(id);
    if (mark && mark->last_answer < ticks(issued)) mark->slow_until = ticks(now + kSlowFor);
  }
  bool slow(SiteId id, MonotonicTime now) {
    const Mark* mark = find(id);
    return mark && mark->slow_until > ticks(now);
  }

 private:
  struct Mark {
    std::atomic<int64_t> last_answer{0}, slow_until{0};
  };
  static int64_t ticks(MonotonicTime t) { return t.time_since_epoch().count(); }
  Mark* find(SiteId id) {
    const auto it = marks_.find(id);
    return it == marks_.end() ? nullptr : &it->second;
  }

  std::unordered_map<SiteId, Mark> marks_;  // fixed after construction
};

}  // namespace datacloud
