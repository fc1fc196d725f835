// Counting, and choosing new homes.
#include "daemon/repair/site_jobs.h"

#include <algorithm>
#include <optional>
#include <set>

#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"
#include "daemon/records/stripe_groups.h"
#include "daemon/records/stripe_records.h"

namespace datacloud {
namespace {

constexpr size_t kStep = 500;  // stripes per turn on the loop

using Homes = std::map<SiteId, int64_t>;  // shards that belong there, by active site

SiteId home_of(const pb::Shard& shard) {
  return shard.home_site() != 0 ? shard.home_site() : shard.site();
}

// Runs `look` on the loop for groups of stripes in turn: all records, kStep at a time, with one
// transaction per turn, which is committed when it changes anything.
result<void> each_stripe(BackgroundContext& context,
                         const std::function<result<void>(Transaction&, const pb::Stripe&)>& look) {
  const std::string end = key::after_prefix(key::stripe(0).substr(0, 1));
  StripeId from = 0;
  for (bool more = true; more;) {
    TRY(more, context.threads.on_loop<bool>([&]() -> result<bool> {
      Transaction txn = context.store.begin();
      std::vector<pb::Stripe> found;
      TRY(txn.scan(key::stripe(from), end, [&](std::string_view, std::string_view v) {
        pb::Stripe stripe;
        if (stripe.ParseFromArray(v.data(), static_cast<int>(v.size()))) {
          found.push_back(std::move(stripe));
        }
        return found.size() < kStep;
      }));
      for (const auto& stripe : found) {
        TRY(look(txn, stripe));
      }
      if (!found.empty()) from = found.back().id() + 1;
      if (!txn.empty()) {
        TRY(context.committer.apply(std::move(txn)));
      }
      return found.size() == kStep;
    }));
  }
  return success();
}

// From a site with more than its share to one with less that is home to no other column of the
// stripe; parity first, so that data stays near its readers.
std::optional<std::pair<int, SiteId>> better_home(const pb::Stripe& stripe, const Homes& homes,
                                                  int64_t share) {
  std::set<SiteId> used;
  for (const auto& shard : stripe.shards()) used.insert(home_of(shard));
  SiteId target = 0;
  for (const auto& [site, count] : homes) {
    if (count >= share || used.contains(site)) continue;
    if (target == 0 || count < homes.at(target)) target = site;
  }
  if (target == 0) return std::nullopt;
  int best = -1;
  for (int c = stripe.shards_size() - 1; c >= 0; --c) {
    const auto found = homes.find(home_of(stripe.shards(c)));
    if (found == homes.end() || found->second <= share) continue;
    if (stripe.shards(c).state() == pb::SHARD_EMPTY) continue;
    if (best < 0 || found->second > homes.at(home_of(stripe.shards(best)))) best = c;
  }
  if (best < 0) return std::nullopt;
  return std::pair(best, target);
}

result<uint64_t> change_home(Transaction& txn, const std::vector<pb::Stripe>& group, int column,
                             SiteId home, const SiteDuties& duties) {
  uint64_t changed = 0;
  for (const auto& before : group) {
    pb::Stripe after = before;
    auto& shard = *after.mutable_shards(column);
    shard.set_home_site(home);
    if (shard.state() == pb::SHARD_EMPTY) {
      shard.set_site(home);
    } else {
      ++changed;
    }
    TRY(stripes::replace_record(txn, before, after));
    TRY(enqueue_repair(txn, after, duties));
  }
  return changed;
}

}  // namespace

result<SiteUse> site_use(BackgroundContext& context, SiteId site) {
  SiteUse use;
  TRY(each_stripe(context, [&](Transaction&, const pb::Stripe& stripe) -> result<void> {
    for (const auto& shard : stripe.shards()) {
      if (shard.state() == pb::SHARD_EMPTY) continue;
      use.shards += shard.site() == site || shard.home_site() == site;
    }
    return success();
  }));
  TRY(context.threads.on_loop<void>([&]() -> result<void> {
    const std::string prefix = key::pending(0).substr(0, 1);
    return context.store.begin().scan(
        prefix, key::after_prefix(prefix), [&](std::string_view, std::string_view v) {
          pb::PendingDeletion deletion;
          use.deletions += deletion.ParseFromArray(v.data(), static_cast<int>(v.size())) &&
                           deletion.site() == site;
          return use.deletions < 1'000'000;
        });
  }));
  return use;
}

result<bool> has_left(const Transaction& txn,
                      const std::function<bool(const pb::SiteInfo&)>& is_it) {
  pb::Cloud cloud;
  TRY(txn.get(key::meta("cloud"), cloud));
  return std::any_of(cloud.sites().begin(), cloud.sites().end(), [&](const auto& info) {
    return info.duty() == pb::SITE_REMOVED && is_it(info);
  });
}

result<uint64_t> rebalance(BackgroundContext& context) {
  Homes homes;
  int64_t total = 0;
  TRY(const SiteDuties duties,
      context.threads.on_loop<SiteDuties>([&] { return result<SiteDuties>(context.duties()); }));
  for (Site* site : context.sites.all()) {
    if (duty_of(duties, site->id()) == pb::SITE_ACTIVE) homes[site->id()] = 0;
  }
  if (homes.empty()) return failure(Errc::unavailable, "no site is active");
  TRY(each_stripe(context, [&](Transaction&, const pb::Stripe& stripe) -> result<void> {
    for (const auto& shard : stripe.shards()) {
      const auto at = homes.find(home_of(shard));
      if (shard.state() == pb::SHARD_EMPTY || at == homes.end()) continue;
      ++at->second;
      ++total;
    }
    return success();
  }));
  const int64_t share = total / static_cast<int64_t>(homes.size());
  uint64_t moved = 0;
  TRY(each_stripe(context, [&](Transaction& txn, const pb::Stripe& stripe) -> result<void> {
    if (stripe.row() != 0) return success();  // with its row
    const auto better = better_home(stripe, homes, share);
    if (!better) return success();
    TRY(const auto group, group_of(txn, stripe));
    const SiteId from = home_of(stripe.shards(better->first));
    TRY(const uint64_t changed, change_home(txn, group, better->first, better->second, duties));
    homes[from] -= static_cast<int64_t>(changed);
    homes[better->second] += static_cast<int64_t>(changed);
    moved += changed;
    return success();
  }));
  return moved;
}

}  // namespace datacloud
