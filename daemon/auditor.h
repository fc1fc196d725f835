// Audits: asked for by the administrator, and going on all the time so that every shard is proven
// once per cycle.
//
// Runs on the loop; jobs run audit_stripe on the background threads. The continuous audit walks the
// stripes from a persisted cursor at the pace the cycle needs. Per site, what was checked and found
// is kept; a site with kSuspectFindings or more findings since it was last cleared is suspect.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "common/rpc.pb.h"
#include "daemon/background_context.h"
#include "daemon/stripe_audit.h"

namespace datacloud {

class Auditor {
 public:
  static constexpr uint64_t kSuspectFindings = 10;
  Auditor(BackgroundContext&, std::shared_ptr<EventLoop>, Duration cycle, int jobs_max,
          std::function<void()> found);

  result<void> open(const Transaction&);
  // Starts a run over the stripes given, or all. Number of the run. unavailable: too many at once.
  struct Scope {
    std::vector<StripeId> stripes;  // used when not everything
    bool everything = true;
    uint64_t shard_samples = 0;  // > 0: this many shards chosen at random instead of all
    uint64_t block_samples = 0;  // audit blocks per shard; 0: all
  };
  result<uint64_t> start(Scope);
  // Fills in what is known of a run; not_found when it is forgotten (the last 16 are kept).
  result<void> describe(uint64_t run, pb::AuditReply&) const;
  const std::map<SiteId, pb::AuditHistory>& history() const { return history_; }
  bool suspect(SiteId) const;
  uint64_t findings(SiteId) const;  // all but silence
  // Share of the current cycle's stripes that are done, 0 to 1.
  double cycle_progress() const;

 private:
  struct Item {
    StripeId stripe = 0;
    ColumnSet columns = ~ColumnSet{0};
  };
  struct Run {
    Scope scope;
    std::vector<Item> items;  // used when not everything
    size_t next = 0;
    StripeId cursor = 0;  // everything: the next stripe
    uint64_t stripes_done = 0, stripes_total = 0;
    size_t in_flight = 0;
    bool exhausted = false;
    bool choosing = false;  // a sample is being drawn
    pb::AuditReply reply;
  };
  void pump();
  bool next_item(Run&, Item&);
  void choose_sample(uint64_t run);
  void give_up(uint64_t run, const std::string& why);
  void begin(uint64_t run, const Item&);
  void finished(uint64_t run, result<StripeAuditReport>);
  void add_findings(const StripeAuditReport&);
  void tick();
  void save(bool cycle_over);
  std::vector<StripeId> stripes_from(StripeId, size_t count) const;

  BackgroundContext& context_;
  std::shared_ptr<EventLoop> loop_;
  const Duration cycle_;
  const size_t jobs_max_;
  std::function<void()> found_;
  std::map<uint64_t, Run> runs_;  // 0: the continuous one
  uint64_t next_run_ = 1;
  size_t in_flight_ = 0;
  std::map<SiteId, pb::AuditHistory> history_;
  double credit_ = 0;  // stripes the continuous audit may take now
  MonotonicTime ticked_{}, saved_{};
  bool dirty_ = false;
};

}  // namespace datacloud
