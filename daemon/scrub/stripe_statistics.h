// Counts over all stripes, damage, pending-deletion, tree, inline and patch records, for `status`.
//
// Scanned in small steps between requests, afresh for every question that finds the store changed,
// or other sites away: a stripe survives fewer losses while some of its shards cannot be reached.
// Exact when nothing changes meanwhile; otherwise each record is counted as it was when the scan
// passed it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "common/codes/erasure_code.h"
#include "daemon/loop/event_loop.h"
#include "daemon/metadata/metadata_store.h"

namespace datacloud {

class StripeStatistics {
 public:
  struct SiteCounts {
    uint64_t shards = 0, shard_bytes = 0, missing = 0, stand_ins = 0;
  };
  struct Counts {
    std::map<SiteId, SiteCounts> sites;
    uint64_t damaged = 0;
    std::vector<pb::Damage> damaged_first;  // at most 100
    uint64_t pending_deletions = 0;
    uint64_t repair_queued = 0;
    std::vector<uint64_t> stripes_by_remaining;  // losses still survived now: 0, 1, ...
    uint64_t rows = 0, row_bytes = 0;            // XOR rows of groups
    uint64_t trees = 0, inline_blocks = 0, patches = 0;
    uint64_t members = 0, dead_members = 0, dead_bytes = 0;
    bool incomplete = false;  // the scan failed
  };
  using AwaySites = std::function<std::set<SiteId>()>;
  StripeStatistics(MetadataStore& store, std::shared_ptr<EventLoop> loop, AwaySites away)
      : store_(store), loop_(std::move(loop)), away_sites_(std::move(away)) {}

  // Answers on the loop with counts taken after this call.
  void get(std::function<void(const Counts&)>);

 private:
  void begin();
  void step();
  void count_record(std::string_view key, std::string_view value);
  void count_stripe(std::string_view value);
  void count_group(const pb::Stripe&);
  void finish();

  MetadataStore& store_;
  std::shared_ptr<EventLoop> loop_;
  AwaySites away_sites_;
  std::set<SiteId> away_;  // at the start of the scan
  Counts counts_;
  Sequence counted_at_ = 0;  // the sequence at the start of the scan behind counts_
  bool valid_ = false, running_ = false;
  size_t phase_ = 0;
  std::string position_, end_;
  std::map<std::string, int> tolerances_;  // by code
  std::map<StripeId, ColumnSet> damaged_;  // columns known bad, of at most kDamagedStripes stripes
  std::set<StripeId> dead_;                // stripes without live slots, at most as many
  std::vector<std::function<void(const Counts&)>> asked_, waiting_;
};

}  // namespace datacloud
