// The sites of a cloud as one process sees them: a store per site and its health.
//
// A site is up or away. It becomes away when a call reports away (no marker, another's, or one that
// cannot be read) or kTimeoutsMax calls in a row time out; a prober thread checks away sites every
// `probe_interval`, brings them back when the marker is theirs again, and looks at the others every
// kUpCheckInterval, so that a site that vanishes is noticed without traffic. Health is advice for
// placement and read order; correctness never depends on it.
//
// A site that refuses a put for want of room is full for puts of that size and larger, for a while
// (RefusalPause): none are sent there, and whoever writes knows at once what there is no room for.
//
// Sites join and leave while all is running. One that has left is not listed or found any more, but
// lives as long as the set, so that whoever holds it may finish.
//
// Thread safety: all methods from any thread.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/base/ids.h"
#include "common/base/refusal_pause.h"
#include "common/config/config.h"
#include "common/store/object_store.h"
#include "common/store/store_decorators.h"

namespace datacloud {

struct RadosOptions;  // common/store/rados/rados_store.h
namespace pb {
class Cloud;
class SiteInfo;
}  // namespace pb

class Site {
 public:
  static constexpr int kTimeoutsMax = 3;

  // `store` is the bare back end (behind a FaultStore in tests).
  Site(SiteId id, std::string name, std::unique_ptr<ObjectStore> store);

  SiteId id() const { return id_; }
  const std::string& name() const { return name_; }
  // The store with deadlines, accounting and health reporting in front of it.
  ObjectStore& store() { return *store_; }
  bool up() const { return up_.load(std::memory_order_relaxed); }
  std::string away_reason() const;  // empty when up
  // False for a site that is drained or declared lost: nothing new is put there.
  bool takes_shards() const { return takes_shards_.load(std::memory_order_relaxed); }
  void set_takes_shards(bool takes) { takes_shards_ = takes; }
  // The refusal, while puts of so many bytes are not worth trying here.
  std::optional<Error> full_for(uint64_t bytes) const { return full_.lasting(bytes); }
  const TrafficCounters& traffic() const { return traffic_; }
  void reset_traffic() { traffic_.reset(); }

  // What a finished call says about the site's health; called by the store's reporting layer.
  void report(const Error* failure);
  // How a put of so many bytes has ended, for full_for().
  void report_room(uint64_t bytes, const Error* failure);
  void set_up();
  void set_away(const std::string& reason);

 private:
  friend class SiteSet;
  void changed();
  bool retired() const { return retired_.load(std::memory_order_relaxed); }

  const SiteId id_;
  const std::string name_;
  std::atomic<bool> up_{true}, takes_shards_{true}, retired_{false};
  std::atomic<int> timeouts_{0};
  mutable std::mutex mutex_;
  std::string away_reason_;
  RefusalPause full_;
  std::function<void()> wake_;        // set by SiteSet before any call; never blocks
  std::atomic<bool> probing_{false};  // SiteSet: a check is unanswered
  bool notified_up_ = true;           // SiteSet's prober: what on_change was told last
  MonotonicTime probed_{};            // SiteSet's prober
  TrafficCounters traffic_;
  std::unique_ptr<ObjectStore> store_;  // last: destroyed first, its callbacks use the above
};

class SiteSet {
 public:
  struct Member {
    SiteId id;
    std::string name;
    std::unique_ptr<ObjectStore> store;
  };
  static constexpr Duration kUpCheckInterval = seconds(1);
  static constexpr size_t kSitesMax = 256;  // that were ever part of one set

  // At most kSitesMax members.
  explicit SiteSet(std::vector<Member>, Duration probe_interval = seconds(1));
  ~SiteSet();

  // Checks every site once, in parallel, waiting at most `deadline` in all; a site that does not
  // answer well by then is away.
  void check_all(Duration deadline);
  // Runs after a site changed between up and away, on the prober's thread, one call at a time.
  void on_change(std::function<void(Site&)>);

  // Joins, away until its first check, which is soon. False: kSitesMax, or its id is known.
  bool add(Member);
  // Leaves.
  void retire(SiteId);

  size_t size() const;
  Site& at(size_t i) { return *sites_[i]; }  // in the order of joining, also those that left
  Site* find(SiteId);
  Site* find(const std::string& name);
  std::vector<Site*> all();
  size_t live_count() const;
  // The failure to tell when shards of so many bytes cannot be put at `needed` sites, and room is
  // known to be what is missing: with it there would be enough sites.
  std::optional<Error> out_of_space(uint64_t bytes, size_t needed) const;
  // "tsukuba (away: no marker in /srv/...), ..." of sites that are not up.
  std::string describe_away() const;

 private:
  void probe_loop();
  void probe(Site&);
  void notify_changes();
  void wake();
  template <class F>
  void each(F visit) const;
  void append(std::unique_ptr<Site>);

  // The first count_ are set, and never change again.
  std::array<std::unique_ptr<Site>, kSitesMax> sites_;
  std::atomic<size_t> count_{0};
  std::mutex joining_;
  std::function<void(Site&)> on_change_;
  const Duration probe_interval_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  bool woken_ = false;
  std::thread prober_;
};

// The failure for want of room at these sites: EDQUOT if all say so, else no_space.
Error no_room_error(const std::map<std::string, Error>& refusals);
// What must be at a site of this cloud.
SiteMarker marker_of(const pb::Cloud&, const pb::SiteInfo&);
// Opens the back end of a configured site; `expected` is verified at every use.
result<std::unique_ptr<ObjectStore>> open_store(const SiteConfig&, const SiteMarker& expected);
// Creates the site's layout and marker. exists when it already holds a cloud's marker, invalid
// when it is not empty.
result<void> format_store(const SiteConfig&, const SiteMarker&);
// The marker found there; not_found when there is none. A RADOS site without a configured namespace
// has one per cloud: the marker of `cloud_uuid` is looked for.
result<SiteMarker> read_store_marker(const SiteConfig&, const std::string& cloud_uuid = {});
RadosOptions rados_options(const SiteConfig&, const SiteMarker& expected);
// Where an administrator finds the site: a directory, or "pool/namespace".
std::string site_place(const SiteConfig&, const std::string& cloud_uuid);

}  // namespace datacloud
