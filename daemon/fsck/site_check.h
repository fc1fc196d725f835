// The sites' half of fsck: every object of a site against the records, by listing the site.
//
// Tells objects that no record names, and those that are not as long as their record says or are of
// another instance. (What records name and a site lacks, MissingShardScrub finds.) Lists first,
// looks up after; what changed meanwhile is looked up once more before it is told.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "daemon/jobs/background_context.h"

namespace datacloud {

struct SiteFinding {
  const char* kind = "";  // "orphan", "length", "instance", "damaged", or "missing"
  std::string text;
  std::optional<pb::Damage> damage;  // nullopt: an orphan
};

struct SiteCheckProgress {
  std::atomic<uint64_t> objects{0};
  std::atomic<uint64_t> foreign{0};  // of no cloud's making: never touched
};

// For a background thread. At most `findings_max` are told. `maybe_wanted` (on the loop): an object
// of this instance may still be committed, or was never made by this cloud.
result<std::vector<SiteFinding>> check_site(BackgroundContext&, Site&, size_t findings_max,
                                            const std::function<bool(InstanceId)>& maybe_wanted,
                                            SiteCheckProgress&);

}  // namespace datacloud
