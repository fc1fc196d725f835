// What it takes to lose a file: sites counted, whatever is missing already taken into account.
#include "tools/locate_risk.h"

#include <gtest/gtest.h>

namespace datacloud {
namespace {

pb::Stripe* add_stripe(pb::LocateReply& reply, uint64_t id, const std::vector<uint32_t>& sites) {
  auto* stripe = reply.add_stripes();
  stripe->set_id(id);
  stripe->set_code("rs-3-2");
  for (const uint32_t site : sites) {
    auto* shard = stripe->add_shards();
    shard->set_site(site);
    shard->set_instance(id * 10 + site);
    shard->set_bytes(4096);
  }
  return stripe;
}

TEST(LossRisk, FiveSitesThreeMustGo) {
  pb::LocateReply reply;
  add_stripe(reply, 1, {1, 2, 3, 4, 5});
  const auto risk = loss_risk(reply);
  EXPECT_EQ(risk.sites, 3);
  EXPECT_EQ(risk.example.size(), 3u);
  EXPECT_EQ(risk.shards_spare, 2);
}

TEST(LossRisk, TheWorstStripeCounts) {
  pb::LocateReply reply;
  add_stripe(reply, 1, {1, 2, 3, 4, 5});
  add_stripe(reply, 2, {1, 1, 1, 4, 5});  // stand-ins
  const auto risk = loss_risk(reply);
  EXPECT_EQ(risk.sites, 1);
  EXPECT_EQ(risk.example, std::vector<uint32_t>{1});
  EXPECT_EQ(risk.stripe, 2u);
}

TEST(LossRisk, MissingAndDamagedShardsAreGoneAlready) {
  pb::LocateReply reply;
  auto* stripe = add_stripe(reply, 1, {1, 2, 3, 4, 5});
  stripe->mutable_shards(0)->set_state(pb::SHARD_MISSING);
  auto* damage = reply.add_damaged();
  damage->set_stripe(1);
  damage->set_column(4);
  damage->set_instance(15);
  EXPECT_EQ(loss_risk(reply).sites, 1);
  EXPECT_EQ(loss_risk(reply).shards_spare, 0);
  damage->set_instance(9);  // of an instance that is not there any more
  EXPECT_EQ(loss_risk(reply).sites, 2);
  stripe->mutable_shards(1)->set_state(pb::SHARD_MISSING);
  stripe->mutable_shards(2)->set_state(pb::SHARD_MISSING);
  EXPECT_EQ(loss_risk(reply).sites, 0) << "some of it is unreadable now";
}

TEST(LossRisk, EmptyColumnsAreAlwaysThere) {
  pb::LocateReply reply;
  auto* stripe = add_stripe(reply, 1, {1, 0, 0, 4, 5});
  stripe->mutable_shards(1)->set_state(pb::SHARD_EMPTY);
  stripe->mutable_shards(2)->set_state(pb::SHARD_EMPTY);
  EXPECT_EQ(loss_risk(reply).sites, 3) << "one of three shards is enough";
}

TEST(LossRisk, NothingStoredOrAnUnknownCodeIsNotJudged) {
  pb::LocateReply reply;
  EXPECT_FALSE(loss_risk(reply).sites);
  add_stripe(reply, 1, {1, 2, 3, 4, 5})->set_code("no-such-code");
  EXPECT_FALSE(loss_risk(reply).sites);
}

}  // namespace
}  // namespace datacloud
