// Capacity of the sites, asked for in the background and kept for two seconds, and the logical
// space that follows from it.
//
// Logical space: with c = ceil(n / sites) columns of one stripe at most on one site, T bytes per
// column fit when the sites together take n x T with no site taking more than min(its bytes, c x
// T); k x T is what users can write. Full sites thus bound the placement, as they do in reality.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "common/codes/erasure_code.h"
#include "common/site/site_set.h"
#include "daemon/loop/event_loop.h"

namespace datacloud {

// Pure: bytes of user data that fit into the given bytes per live site.
uint64_t logical_capacity(const std::vector<uint64_t>& site_bytes, int k, int n);

class SiteSpace {
 public:
  struct Report {
    std::map<SiteId, ObjectStore::Capacity> sites;       // of those that answered
    std::map<SiteId, ObjectStore::Capacity> sites_last;  // what each said last
    uint64_t bytes_total = 0, bytes_free = 0;            // logical
  };
  SiteSpace(SiteSet&, std::shared_ptr<EventLoop>, std::shared_ptr<const ErasureCode>);

  // Answers on the loop, at once when a report is fresh.
  // `now` asks again, which also notices sites that have gone; `recent` may be two seconds old.
  enum class Age { recent, now };
  void get(std::function<void(const Report&)> done, Age age = Age::recent);
  // Shards of a commit are at the site: what is free there is less than it said last.
  void stored(SiteId, uint64_t bytes);
  // What each site of the cloud said last, less what was committed since the sites were asked.
  // Empty: none has answered yet.
  std::map<SiteId, uint64_t> free_now() const;
  // Sites whose last answer said that our OSD class works there.
  std::set<SiteId> combining() const;

 private:
  struct Round;
  void finish(const Round&);

  SiteSet& sites_;
  std::shared_ptr<EventLoop> loop_;
  std::shared_ptr<const ErasureCode> code_;
  Report report_;
  // Committed since the sites were asked for the report, and for the one under way.
  std::map<SiteId, uint64_t> since_report_, since_asked_;
  MonotonicTime fresh_until_{};
  std::vector<std::function<void(const Report&)>> waiting_;
};

}  // namespace datacloud
