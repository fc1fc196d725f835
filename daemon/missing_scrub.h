// Finds shards that records name and sites do not have: by listing every site's objects once and
// looking up what the records expect there.
//
// Lists first, looks up after: a shard written meanwhile is not in the listing, so a candidate is
// asked for by itself, and damage is recorded only if the record still names the same instance.
//
// Memory: 8 bytes per object of the site at hand, at most kNamesMax of them; a site with more is
// listed several times, each time for a part of the names.
#pragma once

#include <atomic>
#include <memory>

#include "daemon/background_context.h"

namespace datacloud {

class MissingScrub {
 public:
  struct Progress {
    std::atomic<bool> running{false};
    std::atomic<uint64_t> shards_checked{0}, missing{0}, sites_done{0}, sites_skipped{0};
  };
  explicit MissingScrub(BackgroundContext& context) : context_(context) {}

  // On the loop: starts a pass over the live sites (0: all, else one) unless one is under way.
  // `done` runs on the loop.
  // Returns false when one is.
  bool start(SiteId only, std::function<void()> done);
  // The same, telling what is missing instead of recording it: fsck -n changes nothing.
  using Told = std::function<void(const std::vector<pb::Damage>&)>;
  bool look_only(std::function<void()> done, Told told);
  bool running() const { return progress_->running; }
  const Progress& progress() const { return *progress_; }

 private:
  struct Names;
  bool begin(SiteId only, std::function<void()> done, Told told);
  void run(SiteId only);
  result<void> scrub_site(Site&);
  result<bool> list_names(Site&, Names&) const;
  result<void> look_up(Site&, const Names&);
  result<void> confirm(Site&, const std::vector<ShardName>&);

  BackgroundContext& context_;
  Told told_;  // set before a pass begins
  std::shared_ptr<Progress> progress_ = std::make_shared<Progress>();
};

}  // namespace datacloud
