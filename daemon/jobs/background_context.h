// What background jobs share: the metadata behind the loop, the sites, ids, and the shards' tags.
#pragma once

#include <functional>
#include <set>
#include <string>

#include "common/audit/shard_tags.h"
#include "common/plan/repair_planner.h"
#include "common/site/site_set.h"
#include "daemon/jobs/background.h"
#include "daemon/metadata/committer.h"
#include "daemon/metadata/metadata_store.h"
#include "daemon/records/repair_queue.h"

namespace datacloud {

// Owns the ids of background work; never the id of a client's session.
inline constexpr SessionId kDaemonSession = ~SessionId{0};

struct BackgroundContext {
  Background& threads;
  MetadataStore& store;
  Committer& committer;  // on the loop
  SiteSet& sites;
  const ShardNamer& namer;
  const ShardTags& tags;
  SiteId local_site = 0;  // where this daemon stands; 0: every site is remote

  // On the loop only:
  std::function<SiteDuties()> duties;
  // Takes ids for the daemon in the given transaction; they are used after it is durable.
  std::function<result<IdRange>(Transaction&, IdKind, uint32_t count)> grant;
  std::function<void(Transaction&, IdKind, uint64_t id)> revoke;
  std::function<void()> collect;  // there are new pending deletions
  // Sites that compute combinations next to the data, as far as is known.
  std::function<std::set<SiteId>()> combining;

  // From any thread; empty: the cheapest.
  std::function<RepairStrategy()> repair_strategy = {};

  // From any thread.
  std::string site_name(SiteId id) const {
    Site* site = sites.find(id);
    return site != nullptr ? site->name() : "site " + std::to_string(id);
  }
};

// Ids for background work, granted durably in batches. From jobs.
class BackgroundIds {
 public:
  explicit BackgroundIds(BackgroundContext& context) : context_(context) {}
  // The first of `count` consecutive ids.
  result<uint64_t> take(IdKind, uint32_t count);

 private:
  BackgroundContext& context_;
  std::mutex mutex_;
  std::map<IdKind, IdRange> left_;
};

}  // namespace datacloud
