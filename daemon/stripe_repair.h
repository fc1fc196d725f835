// One stripe made whole: bad shards are computed from the others and put where they belong,
// stand-ins and shards of draining sites move. A job of the background threads; blocks.
//
// Nothing is built upon that was not verified by its tag: a shard that fails is recorded as damaged
// and counts as bad from then on. The switch to the new shards is one transaction, conditional on
// the record the work was computed from.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "daemon/shard_io.h"

namespace datacloud {

struct ShardRepair {
  StripeId stripe = 0;
  int column = 0;
  SiteId from = 0;  // where it was, or should have been
  SiteId to = 0;
  const char* method = "";                     // "decode" or "move"
  uint64_t bytes = 0;                          // of the shard
  uint64_t bytes_read = 0, bytes_written = 0;  // its part of the stripe's repair
  milliseconds took{0};
};

struct RepairOutcome {
  enum class Kind {
    whole,      // nothing is left to do
    gone,       // the stripe exists no more
    improved,   // shards were repaired, and some need still be
    postponed,  // cannot be done now; `reason` says why
    busy,       // other background work holds the stripe
  };
  Kind kind = Kind::whole;
  std::string reason;
  std::vector<ShardRepair> shards;
  std::map<SiteId, uint64_t> bytes_read, bytes_written;
};

class StripeRepair {
 public:
  StripeRepair(BackgroundContext& context, BackgroundIds& ids, StripeId stripe)
      : context_(context), ids_(ids), id_(stripe) {}
  // unavailable: the daemon is stopping.
  result<RepairOutcome> run();

 private:
  struct Snapshot {
    bool exists = false;
    pb::Stripe stripe;
    StripeNeeds needs;
    SiteDuties duties;
  };
  struct Plan {
    ColumnSet rebuild = 0, move = 0, read = 0;
    std::map<int, SiteId> target;
    std::map<int, SiteId> home;
    std::string obstacle;  // why some of what is needed cannot be done now
  };
  result<Snapshot> snapshot();
  Plan plan(const Snapshot&, const ErasureCode&) const;
  void choose_targets(const Snapshot&, Plan&) const;
  bool takes_shards(SiteId, const SiteDuties&) const;
  // True: progress was made or something was learned; look again.
  result<bool> attempt(const Snapshot&, RepairOutcome&);
  result<void> record_failures(const pb::Stripe&, const std::vector<ShardFailure>&);
  result<bool> put_and_switch(const Snapshot&, const Plan&, const std::map<int, Bytes>&,
                              RepairOutcome&);
  void report(const Snapshot&, const Plan&, const ShardsRead&, MonotonicTime began,
              RepairOutcome&) const;

  BackgroundContext& context_;
  BackgroundIds& ids_;
  const StripeId id_;
  ColumnSet silent_ = 0;           // columns that did not answer in this run
  std::set<SiteId> failed_sites_;  // sites that took no shard in this run
};

}  // namespace datacloud
