// One stripe made whole, with its group: bad shards are computed the way that moves the fewest
// bytes between sites (common/plan/repair_planner.h) and put where they belong; stand-ins and
// shards of draining sites move. A job of the background threads; blocks.
//
// It goes move by move: snapshot of the whole group at one sequence, plan, do the first move,
// switch what it rebuilt, look again. So what is held in memory is what one move reads and makes, a
// stop at any point loses one move at most, and nothing is computed from two snapshots.
//
// Nothing is built upon that was not verified by its tag: a shard that fails is recorded as damaged
// and counts as bad from then on. What was written is challenged before it is named. The switch is
// one transaction per stripe, conditional on the record the work was computed from.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/plan/repair_planner.h"
#include "daemon/jobs/shard_io.h"

namespace datacloud {

struct ShardRepair {
  StripeId stripe = 0;
  int column = 0;
  SiteId from = 0;  // where it was, or should have been
  SiteId to = 0;
  // "vertical": from its column in the group; "decode": from its row; "local": from a part of the
  // row that determines it; "helpers": from what sites combined; "joint"; "move".
  const char* method = "";
  uint64_t bytes = 0;                          // of the shard
  uint64_t bytes_read = 0, bytes_written = 0;  // its part of what was moved for it
  std::map<SiteId, uint64_t> read_at;          // bytes_read by site; all is written at `to`
  uint64_t bytes_between_sites = 0;  // of both: what crossed a link to or from this daemon
  milliseconds took{0};
};

struct RepairOutcome {
  enum class Kind {
    whole,      // nothing is left to do
    gone,       // the stripe exists no more
    improved,   // shards were repaired, and some need still be
    postponed,  // cannot be done now; `reason` says why
    busy,       // other background work holds the stripe, or another of its group
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
  // The stripe's group at one sequence, the XOR row last; without group the stripe alone.
  struct Snapshot {
    bool exists = false;
    size_t own = 0;  // which of the stripes is ours
    std::vector<pb::Stripe> stripes;
    std::vector<StripeNeeds> needs;  // of each
    SiteDuties duties;
    std::set<SiteId> combining;  // sites that combine next to the data
  };
  // Where those columns of one stripe go that are rebuilt or moved.
  struct Targets {
    std::map<int, SiteId> site, home;
    std::string obstacle;  // why some cannot be put now
  };
  struct Plan {
    RepairMove move;  // the first of the cheapest schedule
    std::vector<Targets> targets;
    bool found = false;
  };
  // A move's bytes, and what they cost.
  struct Made {
    std::map<Cell, Bytes> shards;
    std::map<SiteId, uint64_t> read;
    bool complete = false;  // else something failed that the next attempt does without
  };

  result<Snapshot> snapshot();
  result<void> attempts(const std::vector<StripeId>& locked, RepairOutcome&);
  // True: progress was made or something was learned; look again.
  result<bool> attempt(const Snapshot&, RepairOutcome&);
  result<bool> move_columns(const Snapshot&, RepairOutcome&);
  void record(const Snapshot&, const RepairMove&, const char* method, const Made&,
              const std::vector<Targets>&, MonotonicTime began, RepairOutcome&) const;

  // repair_targets.cc
  Targets choose_targets(const Snapshot&, size_t row, ColumnSet rebuild, ColumnSet move) const;
  bool takes_shards(SiteId, const SiteDuties&) const;
  bool readable(const Snapshot&, size_t row, int column) const;
  result<Plan> plan(const Snapshot&, const ErasureCode&, std::string& obstacle) const;

  // repair_moves_run.cc: reads, verifies, computes
  result<Made> make(const Snapshot&, const ErasureCode&, const RepairMove&, RepairOutcome&);
  result<bool> read_cells(const Snapshot&, const std::vector<RepairRead>&, std::map<Cell, Bytes>&,
                          Made&, RepairOutcome&);
  result<bool> ask_helpers(const Snapshot&, const ErasureCode&, const RepairMove&, Made&,
                           RepairOutcome&);
  result<void> record_failures(const pb::Stripe&, const std::vector<ShardFailure>&);

  // repair_switch.cc: puts, challenges, switches
  result<bool> put_and_switch(const Snapshot&, size_t row, const Targets&,
                              const std::map<int, Bytes>&, RepairOutcome&);
  bool prove_written(const pb::Stripe& expected, const std::vector<NewShard>&, RepairOutcome&);

  BackgroundContext& context_;
  BackgroundIds& ids_;
  const StripeId id_;
  std::set<std::pair<StripeId, int>> silent_;  // shards that did not answer in this run
  std::set<SiteId> failed_sites_;              // sites that took no shard in this run
};

}  // namespace datacloud
