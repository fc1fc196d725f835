// What a cloud has lost comes back: missing, deleted and corrupt shards, stand-ins, drained and
// lost sites. Stripes are really coded and tagged.
#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "common/audit/shard_tags.h"
#include "common/proto/admin.pb.h"
#include "daemon/metadata/record_keys.h"
#include "tests/daemon/service/service_rig.h"

namespace datacloud {
namespace {

constexpr uint32_t kShardBytes = 5000;

class RepairTest : public ServiceTest {
 protected:
  void SetUp() override {
    config_.gc_interval_ms = 100;
    ServiceTest::SetUp();
    tags_ = ShardTags(ShardTags::derive_keys(service_key_, cloud_));
  }

  result<ReadReply> read_object(SiteId site, const ShardName& name) {
    return wait_for<ReadReply>([&](Callback<ReadReply> done) {
      sites_->find(site)->store().read(object_name(name), {{0, 1u << 20}}, true, {}, done);
    });
  }
  void put_shard(SiteId site, const ShardName& name, const Bytes& bytes) {
    const auto stored = wait_for<void>([&](Callback<void> done) {
      sites_->find(site)->store().put(object_name(name), Payload::from(bytes),
                                      tags_.make(site, name, {ByteView(bytes)}), {}, done);
    });
    ASSERT_TRUE(stored) << stored.error().message();
  }
  void remove_object(SiteId site, const ShardName& name) {
    const auto removed = wait_for<void>([&](Callback<void> done) {
      sites_->find(site)->store().remove(object_name(name), {}, done);
    });
    ASSERT_TRUE(removed) << removed.error().message();
  }

  // A coded stripe of two data shards (the third is empty) and two parity shards.
  pb::Stripe make_stripe(Client& client, const std::map<int, SiteId>& elsewhere = {},
                         ColumnSet missing = 0) {
    const StripeId id = grant(client, IdKind::stripe, 1);
    const InstanceId first = grant(client, IdKind::instance, 5);
    std::mt19937 random(static_cast<unsigned>(id));
    columns_[id].assign(5, Bytes(kShardBytes));
    auto& columns = columns_[id];
    for (int c = 0; c < 2; ++c) {
      for (auto& b : columns[c]) b = static_cast<uint8_t>(random());
    }
    columns[1].resize(3000);
    Bytes padded = columns[1];
    padded.resize(kShardBytes);
    std::vector<MutableByteView> parity{columns[3], columns[4]};
    make_erasure_code("rs-3-2").value()->encode({columns[0], padded, columns[2]}, parity);
    pb::Stripe stripe;
    stripe.set_id(id);
    stripe.set_code("rs-3-2");
    stripe.set_parity_bytes(kShardBytes);
    for (uint32_t c = 0; c < 2; ++c) {
      stripe.add_slot_column(c);
      stripe.add_slot_offset(0);
      stripe.add_slot_length(static_cast<uint32_t>(columns[c].size()));
    }
    for (int c = 0; c < 5; ++c) {
      auto* shard = stripe.add_shards();
      const auto home = static_cast<SiteId>(c + 1);
      const auto other = elsewhere.find(c);
      shard->set_site(other != elsewhere.end() ? other->second : home);
      shard->set_home_site(home);
      if (c == 2) {
        shard->set_state(pb::SHARD_EMPTY);
        continue;
      }
      shard->set_bytes(static_cast<uint32_t>(columns[c].size()));
      if (contains(missing, c)) {
        shard->set_state(pb::SHARD_MISSING);
        continue;
      }
      shard->set_instance(first + static_cast<uint64_t>(c));
      put_shard(shard->site(), name_of(stripe, c), columns[c]);
    }
    return stripe;
  }
  pb::Stripe commit(Client& client, const pb::Stripe& stripe, uint64_t block = 0) {
    if (file_ == 0) file_ = create(client, "file");
    auto request = commit_request(stripe, file_, grant(client, IdKind::version, 2), block);
    request.mutable_commit()->mutable_updates(0)->mutable_runs(0)->set_count(2);
    request.mutable_commit()->mutable_updates(0)->set_grow_to((block + 2) * 4096);
    pb::Request lease = lease_request(file_, pb::LEASE_WRITE, true);
    EXPECT_EQ(call(client, lease).error(), 0);
    const auto reply = call(client, request);
    EXPECT_EQ(reply.error(), 0) << reply.error_text();
    return stripe;
  }
  static ShardName name_of(const pb::Stripe& stripe, int column) {
    return {stripe.id(), static_cast<uint8_t>(column), stripe.shards(column).instance()};
  }
  pb::Stripe record(StripeId id) { return get_stripe(store_->begin(), id).value().value(); }

  pb::RepairReply ask(Client& client, bool start, bool scrub, uint64_t after = 0) {
    pb::Request request;
    request.mutable_repair()->set_start(start);
    request.mutable_repair()->set_scrub(scrub);
    request.mutable_repair()->set_lines_after(after);
    const auto reply = call(client, request);
    EXPECT_EQ(reply.error(), 0) << reply.error_text();
    return reply.repair();
  }
  pb::RepairReply repair_all(Client& client, bool scrub = false) {
    auto reply = ask(client, true, scrub);
    const auto end = monotonic_now() + seconds(20);
    while (!reply.idle() && monotonic_now() < end) {
      run_for(milliseconds(1));
      reply = ask(client, false, false);
    }
    EXPECT_TRUE(reply.idle());
    return reply;
  }
  // Every shard is where the record says, holds the right bytes, and the record is whole.
  void expect_whole(StripeId id, const std::set<SiteId>& not_at = {}) {
    const auto stripe = record(id);
    for (int c = 0; c < 5; ++c) {
      if (c == 2) continue;
      const auto& shard = stripe.shards(c);
      EXPECT_EQ(shard.state(), pb::SHARD_PRESENT) << "column " << c;
      EXPECT_FALSE(not_at.contains(shard.site())) << "column " << c;
      const auto reply = read_object(shard.site(), name_of(stripe, c));
      ASSERT_TRUE(reply) << "column " << c << ": " << reply.error().message();
      EXPECT_EQ(reply.value().ranges.at(0), columns_[id][static_cast<size_t>(c)]);
      EXPECT_TRUE(tags_.verify(stripe, c, reply.value().ranges.at(0), reply.value().attributes))
          << "column " << c;
    }
    EXPECT_FALSE(stripe.weak());
  }

  ShardTags tags_;
  std::map<StripeId, std::vector<Bytes>> columns_;
  InodeId file_ = 0;
};

TEST_F(RepairTest, WhatWasNeverWrittenIsMadeWhole) {
  auto client = mount(10);
  const auto stripe = commit(client, make_stripe(client, {}, 0b01001));
  auto asker = tool();
  const auto reply = repair_all(asker);
  expect_whole(stripe.id());
  EXPECT_EQ(reply.queued(), 0u);
  ASSERT_EQ(reply.lines_size(), 2);
  EXPECT_EQ(reply.lines(0).method(), "decode");
  EXPECT_EQ(read_totals(store_->begin()).value().shards_missing, 0u);
}

TEST_F(RepairTest, ADeletedShardIsFoundByItsAbsence) {
  auto client = mount(10);
  std::vector<pb::Stripe> stripes;
  for (uint64_t i = 0; i < 20; ++i) stripes.push_back(commit(client, make_stripe(client), 2 * i));
  for (const auto& stripe : stripes) {
    remove_object(1, name_of(stripe, 0));
    remove_object(4, name_of(stripe, 3));
  }
  auto asker = tool();
  const auto reply = repair_all(asker, true);
  EXPECT_EQ(reply.missing_found(), 40u);
  for (const auto& stripe : stripes) expect_whole(stripe.id());
  // Nothing is left over: whole stripes, the replaced names gone from the records and the sites.
  EXPECT_EQ(call(asker, gc_request()).error(), 0);
  EXPECT_EQ(objects(), 20u * 4);
}

TEST_F(RepairTest, ARottenSourceIsGoneRoundAndMended) {
  auto client = mount(10);
  const auto stripe = commit(client, make_stripe(client));
  remove_object(2, name_of(stripe, 1));
  // Column 0 holds garbage under the tags of the truth.
  const auto good = read_object(1, name_of(stripe, 0)).value();
  remove_object(1, name_of(stripe, 0));
  const auto stored = wait_for<void>([&](Callback<void> done) {
    sites_->find(1)->store().put(object_name(name_of(stripe, 0)),
                                 Payload::from(Bytes(kShardBytes, 9)), good.attributes, {}, done);
  });
  ASSERT_TRUE(stored);
  auto asker = tool();
  repair_all(asker, true);
  expect_whole(stripe.id());
}

TEST_F(RepairTest, StandInsMoveHome) {
  auto client = mount(10);
  const auto stripe = commit(client, make_stripe(client, {{3, 1}, {4, 2}}));
  auto asker = tool();
  const auto reply = repair_all(asker);
  expect_whole(stripe.id());
  for (int c : {3, 4}) EXPECT_EQ(record(stripe.id()).shards(c).site(), SiteId(c + 1));
  ASSERT_EQ(reply.lines_size(), 2);
  EXPECT_EQ(reply.lines(0).method(), "move");
}

TEST_F(RepairTest, WhatCannotBeDecodedIsPutOffAndDoneLater) {
  auto client = mount(10);
  const auto stripe = commit(client, make_stripe(client, {}, 0b01000));
  // Two of the three others do not answer.
  memory_[0].set_away(true);
  memory_[1].set_away(true);
  sites_->find(1)->set_away("test");
  sites_->find(2)->set_away("test");
  auto asker = tool();
  auto reply = repair_all(asker);
  EXPECT_EQ(reply.queued(), 1u);
  EXPECT_EQ(reply.put_off(), 1u);
  ASSERT_GE(reply.obstacles_size(), 1);
  EXPECT_THAT(reply.obstacles(0), testing::HasSubstr("site1"));
  memory_[0].set_away(false);
  memory_[1].set_away(false);
  sites_->find(1)->set_up();
  sites_->find(2)->set_up();
  service_->on_site_change();
  reply = repair_all(asker);
  EXPECT_EQ(reply.queued(), 0u);
  expect_whole(stripe.id());
}

TEST_F(RepairTest, ADrainedSiteHoldsNothing) {
  auto client = mount(10);
  std::vector<pb::Stripe> stripes;
  for (uint64_t i = 0; i < 10; ++i) stripes.push_back(commit(client, make_stripe(client), 2 * i));
  auto asker = tool();
  pb::Request drain;
  drain.mutable_site()->set_name("site1");
  drain.mutable_site()->set_action(pb::SITE_DRAIN);
  EXPECT_EQ(call(asker, drain).error(), 0);
  repair_all(asker);
  for (const auto& stripe : stripes) expect_whole(stripe.id(), {1});
  EXPECT_EQ(call(asker, gc_request()).error(), 0);
  EXPECT_EQ(memory_[0].object_count(), 0u);
  // The duty is kept over a restart.
  restart();
  pb::Cloud record;
  ASSERT_TRUE(store_->begin().get(key::meta("cloud"), record));
  EXPECT_EQ(record.sites(0).duty(), pb::SITE_DRAINING);
}

TEST_F(RepairTest, ALostSiteIsRebuiltAtTheOthers) {
  auto client = mount(10);
  std::vector<pb::Stripe> stripes;
  for (uint64_t i = 0; i < 10; ++i) stripes.push_back(commit(client, make_stripe(client), 2 * i));
  memory_[3].set_away(true);
  sites_->find(4)->set_away("burnt down");
  auto asker = tool();
  pb::Request lost;
  lost.mutable_site()->set_name("site4");
  lost.mutable_site()->set_action(pb::SITE_DECLARE_LOST);
  EXPECT_EQ(call(asker, lost).error(), 0);
  repair_all(asker);
  for (const auto& stripe : stripes) expect_whole(stripe.id(), {4});
}

TEST_F(RepairTest, WhatWasToBeDeletedAtALostSiteEndsWhenTheSiteLeaves) {
  auto client = mount(10);
  for (uint64_t i = 0; i < 10; ++i) commit(client, make_stripe(client), 2 * i);
  memory_[3].set_away(true);
  sites_->find(4)->set_away("burnt down");
  for (uint64_t i = 0; i < 6; ++i) commit(client, make_stripe(client, {{3, 5}}), 2 * i);
  auto asker = tool();
  EXPECT_EQ(call(asker, gc_request()).error(), 0);
  pb::Request lost;
  lost.mutable_site()->set_name("site4");
  lost.mutable_site()->set_action(pb::SITE_DECLARE_LOST);
  EXPECT_EQ(call(asker, lost).error(), 0);
  repair_all(asker);
  EXPECT_EQ(call(asker, gc_request()).error(), 0);
  pb::Request status;
  status.mutable_status();
  EXPECT_EQ(call(asker, status).status().pending_deletions(), 6u);
  pb::AdminRequest admin;
  admin.mutable_site_change()->set_change(pb::SiteChangeRequest::REMOVE);
  admin.mutable_site_change()->set_name("site4");
  pb::Request remove;
  remove.set_admin(admin.SerializeAsString());
  const auto removed = call(asker, remove);
  ASSERT_EQ(removed.error(), 0) << removed.error_text();
  EXPECT_EQ(call(asker, gc_request()).error(), 0);
  EXPECT_EQ(call(asker, status).status().pending_deletions(), 0u);
  EXPECT_EQ(memory_[3].object_count(), 10u) << "nobody reaches what is there";
}

TEST_F(RepairTest, AnAuditNamesTheSiteAndTheRepairMends) {
  auto client = mount(10);
  std::vector<pb::Stripe> stripes;
  for (uint64_t i = 0; i < 10; ++i) stripes.push_back(commit(client, make_stripe(client), 2 * i));
  const auto& victim = stripes[3];
  const auto good = read_object(5, name_of(victim, 4)).value();
  remove_object(5, name_of(victim, 4));
  Bytes flipped = good.ranges[0];
  flipped[17] ^= 1;
  ASSERT_TRUE(wait_for<void>([&](Callback<void> done) {
    sites_->find(5)->store().put(object_name(name_of(victim, 4)), Payload::from(flipped),
                                 good.attributes, {}, done);
  }));
  remove_object(1, name_of(stripes[7], 0));
  auto asker = tool();
  pb::Request request;
  request.mutable_audit();
  auto reply = call(asker, request);
  ASSERT_EQ(reply.error(), 0) << reply.error_text();
  const uint64_t run = reply.audit().run();
  for (int i = 0; i < 1000 && !reply.audit().done(); ++i) {
    run_for(milliseconds(1));
    request.mutable_audit()->set_run(run);
    reply = call(asker, request);
  }
  ASSERT_TRUE(reply.audit().done());
  EXPECT_EQ(reply.audit().shards_checked(), 40u);
  std::set<std::string> bad;
  for (const auto& b : reply.audit().bad()) {
    bad.insert(std::to_string(b.stripe()) + "/" + std::to_string(b.column()) + " " +
               std::to_string(b.site()) + " " + b.reason());
  }
  EXPECT_EQ(bad, (std::set<std::string>{std::to_string(victim.id()) + "/4 5 corrupt",
                                        std::to_string(stripes[7].id()) + "/0 1 missing"}));
  repair_all(asker);
  for (const auto& stripe : stripes) expect_whole(stripe.id());
}

}  // namespace
}  // namespace datacloud
