// Puts the shards of one stripe and decides when they suffice.
//
// Every column is put at its place (placement.h) at once. A put that fails goes to a stand-in, a
// live site with the fewest columns of the stripe, under a new instance id; so does a column whose
// site keeps the quorum waiting. Once the write quorum holds (write_quorum.h) stragglers get a
// grace; then the stripe record is made, naming only durable shards. Whatever lands afterwards is
// abandoned. A stripe that cannot reach quorum fails naming sites and reasons: with no_space
// (EDQUOT, if it is quotas only) when the sites without room would have made the quorum, else
// unavailable.
//
// Sites known to be full for such shards (Site::full_for) get none, and a stripe for which that
// leaves too few sites fails at once, without a put.
//
// Every put carries its instance and the audit tags made for its site. Tags take CPU time, about
// half a millisecond for 4 MiB, most of it for reading the bytes: start() therefore computes the
// parity, and sums up for the tags what goes by (tag_sums.h). Later puts, whose tags are made anew,
// are left to the context's executor.
//
// Threads: start() may block for one RPC (ids). `done` runs once, on a store's or the timer's
// thread or in start(), and must not block.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/audit/shard_tags.h"
#include "common/site/site_set.h"
#include "common/stripe/placement.h"
#include "common/stripe/write_quorum.h"
#include "fs/base/offload.h"
#include "fs/base/timer_queue.h"
#include "fs/write/abandon_reporter.h"
#include "fs/write/id_pool.h"
#include "fs/write/stripe_budget.h"
#include "fs/write/stripe_builder.h"
#include "fs/write/write_pipeline.h"

namespace datacloud {

struct PipelineCounters {
  std::atomic<uint64_t> stripes{0}, blocks{0}, plain_bytes{0}, sealed_bytes{0}, shard_bytes{0};
  std::atomic<uint64_t> stand_ins{0}, shards_missing{0}, failures{0}, rows{0};
  std::atomic<uint64_t> record_blocks{0}, record_bytes{0};
};

// What all putters of a pipeline share. Puts that outlast the pipeline keep it alive; `timers` and
// `abandoned` have been stopped by then and do nothing any more.
struct PutContext {
  SiteSet& sites;
  const ShardNamer& namer;
  IdPool& ids;
  std::shared_ptr<TimerQueue> timers;
  std::shared_ptr<const ShardTags> tags;
  uint32_t sites_min;
  Duration put_deadline;
  StripeBudget budget;
  std::shared_ptr<AbandonReporter> abandoned;
  Offload offload;
  PipelineCounters counters;
};

// How columns go to sites, where it is not by the stripe's id alone, and what merging is to keep.
struct StripePlace {
  std::optional<uint64_t> rotation;  // a group's number; none: the stripe id
  SiteId home_site = 0;
  uint32_t shard_bytes = kShardPlainBytesMax;
};

class StripePutter : public std::enable_shared_from_this<StripePutter> {
 public:
  using Done = std::function<void(result<pb::Stripe>)>;
  // The stripe's parity may be computed or not.
  StripePutter(std::shared_ptr<PutContext>, std::shared_ptr<const ErasureCode>, BuiltStripe,
               Urgency, Done, StripePlace = {});
  // `encoded` is shown the stripe with its parity before anything is put; not if it cannot be.
  void start(const std::function<void(const BuiltStripe&)>& encoded = nullptr);

 private:
  struct Put {
    int column = 0;
    SiteId site = 0;
    InstanceId instance = 0;
    Payload payload;
    Bytes sums;  // of its tags, if they are made
  };
  struct Column {
    SiteId home = 0;
    SiteId site = 0;  // first choice; where the shard is durable once it is
    InstanceId instance = 0;
    uint32_t bytes = 0;
    Bytes sums;  // of the tags at the first site, for its put
    bool durable = false;
    int puts = 0;                 // issued so far
    std::vector<SiteId> pending;  // sites with a put under way
  };
  // What to do once the lock is released.
  struct Actions {
    std::vector<Put> puts;
    std::vector<pb::PendingDeletion> abandoned;
    std::optional<result<pb::Stripe>> outcome;
    std::optional<Duration> grace, hedge;
    BuiltStripe freed;
  };

  // Sites that take part, and those that would with more room.
  struct Able {
    size_t known = 0;                      // that would hold something
    size_t silent = 0;                     // that may or may not: they have not answered yet
    std::map<std::string, Error> no_room;  // by name
    std::string others;                    // what the rest says, for a failure's text
  };

  result<void> prepare();
  void encode();
  std::vector<PlacementSite> placement_sites() const;
  void answered(const Put&, const result<void>&);
  void on_hedge();
  void on_grace_over();
  void on_deadline();
  void perform(Actions);
  void issue(Put);

  // With the lock held:
  Put make_put(int column, SiteId);
  void note_failure(const Put&, const Error&, Actions&);
  void abandon(int column, SiteId, InstanceId, Actions&) const;
  std::optional<SiteId> stand_in(int column) const;
  bool spreads(const Column&, SiteId) const;
  void decide(Actions&);
  void succeed(Actions&);
  void fail(Actions&);
  void close(Actions&);
  ShardsHeld held() const;
  bool quorum() const;
  size_t usable_sites() const;
  size_t sites_needed() const;
  bool hopeless() const;
  Able able() const;
  bool cause_known() const;
  Error cause() const;
  pb::Stripe record();
  std::string site_name(SiteId) const;

  const std::shared_ptr<PutContext> context_;
  const std::shared_ptr<const ErasureCode> code_;
  const Urgency urgency_;
  const StripePlace place_;
  const MonotonicTime start_;
  StripeId stripe_ = 0;
  InstanceId first_instance_ = 0;

  std::mutex mutex_;
  Done done_;
  BuiltStripe built_;
  std::vector<Column> columns_;  // n
  ColumnSet empty_ = 0;
  uint32_t stored_ = 0;       // columns that are not empty
  uint64_t shard_bytes_ = 0;  // of the longest
  int pending_ = 0;
  std::set<SiteId> failed_;          // sites that refused a shard of this stripe
  std::set<SiteId> overdue_;         // sites that kept the quorum waiting
  std::map<SiteId, Error> refused_;  // the first other failure of each site
  std::map<SiteId, Error> no_room_;  // sites that had no room for a shard
  Duration hedge_after_{};
  bool hedge_armed_ = false, grace_armed_ = false, grace_over_ = false;
  bool deadline_over_ = false;
  bool closed_ = false;  // the outcome is decided; puts still under way are late
};

}  // namespace datacloud
