// Stripes and files for tests of the block map.
#pragma once

#include <vector>

#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"
#include "daemon/records/namespace_ops.h"
#include "tests/daemon/metadata/store_fixture.h"

namespace datacloud {

// A valid rs-3-2 stripe with slots of these lengths, dealt to the three data columns in order.
inline pb::Stripe make_stripe(StripeId id, const std::vector<uint32_t>& lengths) {
  pb::Stripe stripe;
  stripe.set_id(id);
  stripe.set_code("rs-3-2");
  uint32_t used[3] = {0, 0, 0};
  for (size_t i = 0; i < lengths.size(); ++i) {
    const uint32_t column = static_cast<uint32_t>(i * 3 / lengths.size());
    stripe.add_slot_column(column);
    stripe.add_slot_offset(used[column]);
    stripe.add_slot_length(lengths[i]);
    used[column] += lengths[i];
  }
  stripe.set_parity_bytes(std::max({used[0], used[1], used[2]}));
  for (uint32_t c = 0; c < 5; ++c) {
    auto* shard = stripe.add_shards();
    shard->set_bytes(c < 3 ? used[c] : stripe.parity_bytes());
    if (shard->bytes() == 0) {
      shard->set_state(pb::SHARD_EMPTY);
      continue;
    }
    shard->set_site(c + 1);
    shard->set_home_site(c + 1);
    shard->set_instance(id * 100 + c);
  }
  return stripe;
}

inline pb::Run make_run(uint64_t first_block, uint32_t count, StripeId stripe, uint32_t first_slot,
                        uint64_t version) {
  pb::Run run;
  run.set_first_block(first_block);
  run.set_count(count);
  run.set_stripe(stripe);
  run.set_first_slot(first_slot);
  run.set_version(version);
  return run;
}

class BlockMapFixture : public StoreTest {
 protected:
  InodeId make_file(const std::string& name) {
    pb::CreateRequest request;
    request.set_parent(kRootInode);
    request.set_name(name);
    request.set_mode(S_IFREG | 0644);
    request.set_exclusive(true);
    const auto made = apply([&](Transaction& txn) { return create(txn, request, next_ino_++); });
    EXPECT_TRUE(made) << made.error().message();
    return made ? made.value().inode.ino() : 0;
  }

  void expect_clean() {
    const auto findings = check_block_map(store_->begin());
    ASSERT_TRUE(findings) << findings.error().message();
    EXPECT_EQ(findings.value(), std::vector<std::string>());
  }

  std::vector<pb::PendingDeletion> pending() {
    std::vector<pb::PendingDeletion> all;
    EXPECT_TRUE(store_->begin().scan("P", "Q", [&](std::string_view, std::string_view v) {
      EXPECT_TRUE(all.emplace_back().ParseFromString(std::string(v)));
      return true;
    }));
    return all;
  }

  InodeId next_ino_ = 100;
};

}  // namespace datacloud
