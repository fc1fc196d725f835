// Groups for tests of folds: the XOR row of stripes that are there.
#pragma once

#include "daemon/records/stripe_groups.h"
#include "tests/daemon/fold/fold_rig.h"

namespace datacloud {

class FoldGroupRig : public FoldRig {
 protected:
  Bytes sum_of(const std::vector<StripeId>& members, int column) {
    Bytes sum;
    for (const StripeId id : members) {
      const auto stripe = *record(id);
      if (stripe.shards(column).state() == pb::SHARD_EMPTY) continue;
      const auto bytes = *object(stripe, column);
      if (bytes.size() > sum.size()) sum.resize(bytes.size());
      for (size_t i = 0; i < bytes.size(); ++i) sum[i] ^= bytes[i];
    }
    return sum;
  }
  StripeId add_row_of(const std::vector<StripeId>& members) {
    const StripeId id = take(IdKind::stripe, 1);
    const InstanceId instance = take(IdKind::instance, static_cast<uint32_t>(code_->n()));
    pb::Stripe row;
    row.set_id(id);
    row.set_code(profile_);
    for (const StripeId member : members) row.add_members(member);
    for (int c = 0; c < code_->n(); ++c) {
      const Bytes sum = sum_of(members, c);
      auto* shard = row.add_shards();
      shard->set_site(static_cast<SiteId>(c + 1));
      shard->set_home_site(shard->site());
      shard->set_bytes(static_cast<uint32_t>(sum.size()));
      shard->set_instance(instance + static_cast<uint64_t>(c));
      row.set_parity_bytes(std::max(row.parity_bytes(), shard->bytes()));
      put_object(shard->site(), {id, static_cast<uint8_t>(c), shard->instance()}, sum);
    }
    bool added = false;
    commit([&](Transaction& txn) -> result<void> {
      TRY(added, add_row(txn, row, [](const pb::Stripe&) { return true; }));
      return success();
    });
    EXPECT_TRUE(added);
    return id;
  }
};

}  // namespace datacloud
