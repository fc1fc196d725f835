// Stripes and files for tests of the block map.
#pragma once

#include <sys/stat.h>

#include <string>
#include <vector>

#include "daemon/metadata/counters.h"
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
  InodeId make(InodeId parent, const std::string& name, uint32_t mode) {
    pb::CreateRequest request;
    request.set_parent(parent);
    request.set_name(name);
    request.set_mode(mode);
    request.set_exclusive(true);
    const auto made =
        apply([&](Transaction& txn) { return datacloud::create(txn, request, next_ino_++); });
    EXPECT_TRUE(made) << made.error().message();
    return made ? made.value().inode.ino() : 0;
  }
  InodeId make_file(const std::string& name) { return make(kRootInode, name, S_IFREG | 0644); }

  // Three blocks in a stripe of their own; the file ends so many bytes before the last one does.
  void map_three(InodeId ino, StripeId stripe, uint64_t missing = 0) {
    const auto done = apply([&](Transaction& txn) -> result<void> {
      pb::InodeUpdate update;
      update.set_ino(ino);
      TRY(add_stripe(txn, make_stripe(stripe, {100, 200, 300})));
      *update.add_runs() = make_run(0, 3, stripe, 0, 900);
      update.set_grow_to(3 * 4096 - missing);
      TRY(update_inode(txn, update));
      return success();
    });
    ASSERT_TRUE(done) << done.error().message();
  }

  // What a daemon would have given out, for fsck.
  static void put_ids(Transaction& txn) {
    for (const char* kind : {"inode", "stripe", "instance", "version"}) {
      put_counter(txn, std::string("next_id/") + kind, 1'000'000);
    }
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
