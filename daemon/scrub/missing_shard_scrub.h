// Looks for missing shards at once, because somebody waits for it: every site's objects are listed
// and what records expect there is looked up (missing_shard_finder.h). The continuous scrub does
// the same slowly, all the time (continuous_scrub.h).
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>

#include "daemon/jobs/background_context.h"
#include "daemon/scrub/missing_shard_finder.h"

namespace datacloud {

class MissingShardScrub {
 public:
  struct Progress {
    std::atomic<bool> running{false};
    std::atomic<uint64_t> shards_checked{0}, missing{0}, sites_done{0}, sites_skipped{0};
  };
  MissingShardScrub(BackgroundContext& context, std::filesystem::path directory)
      : context_(context), directory_(std::move(directory)) {}

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
  bool begin(SiteId only, std::function<void()> done, Told told);
  void run(SiteId only);
  result<void> scrub_site(Site&);
  result<void> list_names(Site&, ListedNames&) const;

  BackgroundContext& context_;
  const std::filesystem::path directory_;  // of the names' file while a site is scrubbed
  Told told_;                              // set before a pass begins
  std::shared_ptr<Progress> progress_ = std::make_shared<Progress>();
};

}  // namespace datacloud
