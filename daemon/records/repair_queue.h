// Which stripes need work, most endangered first: records 'K' (remaining tolerance, stripe).
//
// A stripe is queued in the transaction that makes it need repair: written with missing shards or
// stand-ins, or with a shard found bad. Its place is computed from its records, so an entry may be
// out of date (the stripe is whole again, gone, or worse off): whoever takes it looks again.
#pragma once

#include <map>
#include <vector>

#include "common/codes/erasure_code.h"
#include "daemon/metadata/metadata_store.h"

namespace datacloud {

using SiteDuties = std::map<SiteId, pb::SiteDuty>;  // sites not in it are active
pb::SiteDuty duty_of(const SiteDuties&, SiteId);
// As the cloud's record says; without one all are active.
result<SiteDuties> stored_duties(const Transaction&);

struct StripeNeeds {
  ColumnSet bad = 0;    // missing, found damaged, or at a lost site
  ColumnSet moves = 0;  // readable, but at a stand-in or a draining site
  // Losses of arbitrary columns the stripe still survives; negative: more are bad than the code
  // guarantees, and it may or may not decode.
  int remaining = 0;
  bool any() const { return bad != 0 || moves != 0; }
};
result<StripeNeeds> stripe_needs(const Transaction&, const pb::Stripe&, const SiteDuties&);

inline constexpr uint8_t kMovesOnly = 200;  // place of stripes that have lost nothing

// Adds the stripe if it needs anything.
result<void> enqueue_repair(Transaction&, const pb::Stripe&, const SiteDuties& = {});

struct QueuedRepair {
  std::string key;
  StripeId stripe = 0;
  uint8_t place = 0;
};
// Up to count_max entries from `from` on (a key, or empty).
result<std::vector<QueuedRepair>> queued_repairs(const Transaction&, const std::string& from,
                                                 size_t count_max);

}  // namespace datacloud
