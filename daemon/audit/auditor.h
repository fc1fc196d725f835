// Audits: asked for by the administrator, and going on all the time so that every shard is proven
// once per cycle.
//
// Runs on the loop; jobs run audit_stripes on the background threads. The continuous audit walks
// the stripes from a persisted cursor at the pace the cycle needs. What was checked and found is
// kept: per site in all, and of the latest audits each. A site with kSuspectFindings or more
// findings, the last within kSuspectFor, is suspect.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "common/proto/audit.pb.h"
#include "common/proto/rpc.pb.h"
#include "daemon/audit/stripe_audit.h"
#include "daemon/jobs/background_context.h"

namespace datacloud {

class Auditor {
 public:
  static constexpr uint64_t kSuspectFindings = 10;
  static constexpr auto kSuspectFor = std::chrono::hours(30 * 24);
  static constexpr int kLogMax = 100;  // audits
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
  const pb::AuditLog& log() const { return log_; }
  bool suspect(SiteId) const;
  uint64_t findings(SiteId) const;  // all but silence
  // Share of the current cycle's stripes that are done, 0 to 1.
  double cycle_progress() const;

 private:
  using Batch = std::vector<AuditItem>;
  struct Run {
    Scope scope;
    Batch items;  // used when not everything
    size_t next = 0;
    StripeId cursor = 0;  // everything: the next stripe
    uint64_t stripes_done = 0, stripes_total = 0;
    std::multiset<StripeId> in_flight;  // the first stripe of each batch
    bool exhausted = false;
    bool choosing = false;  // a sample is being drawn
    pb::AuditReply reply;
    pb::AuditLog::Entry entry;
  };
  void pump();
  Batch next_batch(Run&, size_t count);
  void choose_sample(uint64_t run);
  void give_up(uint64_t run, const std::string& why);
  void begin(uint64_t run, Batch);
  void finished(uint64_t run, const Batch&, result<AuditReport>);
  void over(uint64_t run);
  void add_findings(const AuditReport&, pb::AuditLog::Entry&);
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
  pb::AuditLog log_;
  double credit_ = 0;  // stripes the continuous audit may take now
  MonotonicTime ticked_{}, saved_{};
  bool dirty_ = false;
};

}  // namespace datacloud
