// Record, totals, old objects, damage and queue change together.
#include "daemon/jobs/shard_switch.h"

#include "common/stripe/write_quorum.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"
#include "daemon/records/stripe_records.h"

namespace datacloud {
namespace {

// The same rule as in the write path: true when the stripe would not decode after the loss of one
// more site.
result<bool> is_weak(const pb::Stripe& stripe) {
  TRY(const auto code, make_erasure_code(stripe.code()));
  ShardsHeld held;
  for (int c = 0; c < stripe.shards_size(); ++c) {
    const auto& shard = stripe.shards(c);
    held.site_of_column.push_back(shard.state() == pb::SHARD_PRESENT ? shard.site() : 0);
    if (shard.state() == pb::SHARD_EMPTY) held.empty |= ColumnSet{1} << c;
  }
  return code->m() > 0 && !survives_any_site(*code, held);
}

}  // namespace

result<bool> switch_shards(Transaction& txn, const pb::Stripe& expected,
                           const std::vector<ShardSwitch>& switches, const SiteDuties& duties) {
  TRY(const auto now, get_stripe(txn, expected.id()));
  if (!now || now->SerializeAsString() != expected.SerializeAsString()) return false;
  pb::Stripe stripe = *now;
  for (const auto& change : switches) {
    auto& shard = *stripe.mutable_shards(change.column);
    if (shard.instance() != 0 && shard.instance() != change.shard.instance() &&
        duty_of(duties, shard.site()) != pb::SITE_LOST) {
      pb::PendingDeletion old;
      old.set_stripe(stripe.id());
      old.set_column(static_cast<uint32_t>(change.column));
      old.set_instance(shard.instance());
      old.set_site(shard.site());
      old.set_bytes(shard.bytes());
      TRY(add_pending_deletion(txn, old));
    }
    shard = change.shard;
    txn.erase(key::damage(stripe.id(), static_cast<uint32_t>(change.column)));
  }
  TRY(const bool weak, is_weak(stripe));
  stripe.set_weak(weak);
  TRY(stripes::replace_record(txn, *now, stripe));
  TRY(enqueue_repair(txn, stripe, duties));
  return true;
}

}  // namespace datacloud
