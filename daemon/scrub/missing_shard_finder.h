// Finds the shards that records expect at a site and that its listing has not shown.
//
// Lists first, looks up after: a shard written meanwhile is not in the listing, so whatever is not
// there is asked for by itself, and is told only if the site says that it has no such object.
#pragma once

#include <atomic>
#include <functional>
#include <vector>

#include "daemon/jobs/background_context.h"
#include "daemon/scrub/listed_names.h"

namespace datacloud {

class MissingShardFinder {
 public:
  struct Options {
    InstanceId instance_end = ~InstanceId{0};  // shards with later instances are not looked for
    Duration rest = Duration::zero();          // after each step, of so many stripes:
    size_t stripes_per_step = 1000;
    uint64_t part_names = ListedNames::kPartNames;
  };
  // Runs on the loop, with what is missing; at most kConfirmed at once.
  using Found = std::function<result<void>(const std::vector<pb::Damage>&)>;
  static constexpr size_t kConfirmed = 64;

  MissingShardFinder(BackgroundContext& context, Site& site, Options options, Found found)
      : context_(context), site_(site), options_(options), found_(std::move(found)) {}

  // For jobs. unavailable when the daemon is stopping.
  result<void> look_up(ListedNames&, std::atomic<uint64_t>& shards_checked);

 private:
  result<void> look_up(const ListedNames::Part&, std::atomic<uint64_t>& shards_checked);
  result<void> confirm(const std::vector<ShardName>&);

  BackgroundContext& context_;
  Site& site_;
  const Options options_;
  const Found found_;
};

// For Found: notes the damage for repair.
result<void> record_missing(BackgroundContext&, const std::vector<pb::Damage>&);

}  // namespace datacloud
