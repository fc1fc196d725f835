// From records to places in the queue.
#include "daemon/records/repair_queue.h"

#include <algorithm>

#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"

namespace datacloud {
namespace {

result<ColumnSet> damaged_columns(const Transaction& txn, const pb::Stripe& stripe) {
  ColumnSet damaged = 0;
  const std::string prefix = key::damage(stripe.id(), 0).substr(0, 9);
  TRY(txn.scan(prefix, key::after_prefix(prefix), [&](std::string_view k, std::string_view) {
    const uint32_t column = k.size() == 13 ? key::u32_at(k, 9) : 32;
    if (column < 32) damaged |= ColumnSet{1} << column;
    return true;
  }));
  return damaged;
}

}  // namespace

pb::SiteDuty duty_of(const SiteDuties& duties, SiteId site) {
  const auto it = duties.find(site);
  return it == duties.end() ? pb::SITE_ACTIVE : it->second;
}

result<SiteDuties> stored_duties(const Transaction& txn) {
  pb::Cloud cloud;
  TRY(const bool found, txn.get(key::meta("cloud"), cloud));
  SiteDuties duties;
  if (!found) return duties;
  for (const auto& site : cloud.sites()) {
    if (site.duty() == pb::SITE_DRAINING || site.duty() == pb::SITE_LOST) {
      duties[site.id()] = site.duty();
    }
  }
  return duties;
}

result<StripeNeeds> stripe_needs(const Transaction& txn, const pb::Stripe& stripe,
                                 const SiteDuties& duties) {
  TRY(const auto code, make_erasure_code(stripe.code()));
  StripeNeeds needs;
  TRY(const ColumnSet damaged, damaged_columns(txn, stripe));
  for (int c = 0; c < stripe.shards_size(); ++c) {
    const auto& shard = stripe.shards(c);
    const ColumnSet bit = ColumnSet{1} << c;
    if (shard.state() == pb::SHARD_EMPTY) continue;
    const pb::SiteDuty duty = duty_of(duties, shard.site());
    if (shard.state() == pb::SHARD_MISSING || (damaged & bit) || duty == pb::SITE_LOST) {
      needs.bad |= bit;
    } else if (duty == pb::SITE_DRAINING ||
               (shard.home_site() != 0 && shard.home_site() != shard.site())) {
      needs.moves |= bit;
    }
  }
  needs.remaining = code->guaranteed_tolerance() - __builtin_popcount(needs.bad);
  return needs;
}

result<void> enqueue_repair(Transaction& txn, const pb::Stripe& stripe, const SiteDuties& duties) {
  TRY(const auto needs, stripe_needs(txn, stripe, duties));
  if (!needs.any()) return success();
  const uint8_t place =
      needs.bad == 0 ? kMovesOnly : static_cast<uint8_t>(std::clamp(needs.remaining, 0, 31));
  txn.put(key::repair(place, stripe.id()), std::string());
  return success();
}

result<std::vector<QueuedRepair>> queued_repairs(const Transaction& txn, const std::string& from,
                                                 size_t count_max) {
  std::vector<QueuedRepair> found;
  const std::string prefix = key::repair(0, 0).substr(0, 1);
  TRY(txn.scan(std::max(from, prefix), key::after_prefix(prefix),
               [&](std::string_view k, std::string_view) {
                 if (found.size() >= count_max) return false;
                 QueuedRepair queued;
                 queued.key = k;
                 if (k.size() != 10) return true;
                 queued.place = static_cast<uint8_t>(k[1]);
                 queued.stripe = key::u64_at(k, 2);
                 found.push_back(std::move(queued));
                 return true;
               }));
  return found;
}

}  // namespace datacloud
