// Stripes written without a row get one later, where their policy wants it.
#include "common/proto/admin.pb.h"
#include "tests/daemon/repair/group_rig.h"

namespace datacloud {
namespace {

class GroupFormingTest : public GroupTest {
 protected:
  void want_groups(Client& asker, uint32_t members) {
    pb::AdminRequest admin;
    auto* policy = admin.mutable_policy();
    policy->set_path("/");
    policy->set_change(true);
    policy->set_group(members);
    pb::Request request;
    request.set_admin(admin.SerializeAsString());
    EXPECT_EQ(call(asker, request).error(), 0);
  }
  // Waits as long as the daemon lets stripes rest, and a little more.
  void let_rest() {
    for (int i = 0; i < 4; ++i) run_for(seconds(31));
  }
  // The members' row, which holds their sum.
  void expect_grouped(Group& group) {
    const auto row_of_first = [&] { return record(group.stripes[0].id()).row(); };
    ASSERT_TRUE(until([&] { return row_of_first() != 0; })) << "no row was made";
    const StripeId row = row_of_first();
    for (const auto& stripe : group.stripes) EXPECT_EQ(record(stripe.id()).row(), row);
    std::vector<Bytes> sum(5);
    for (const auto& member : group.cells) {
      for (size_t c = 0; c < sum.size(); ++c) {
        if (member[c].size() > sum[c].size()) sum[c].resize(member[c].size());
        ErasureCode::apply_delta(member[c], MutableByteView(sum[c]).first(member[c].size()));
      }
    }
    group.stripes.push_back(record(row));
    group.cells.push_back(std::move(sum));
    expect_whole(group);
  }
  static constexpr uint32_t kLarge = 2u << 20;
};

TEST_F(GroupFormingTest, StripesAtTheSameSitesShareARow) {
  auto client = mount(10);
  auto asker = tool();
  want_groups(asker, 3);
  Group group = make_group(client, {.bytes = kLarge, .has_row = false});
  let_rest();
  expect_grouped(group);
  lose(group, {{1, 0}, {1, 1}, {1, 2}});
  EXPECT_EQ(repair_all(asker).queued(), 0u);
  expect_whole(group);
}

TEST_F(GroupFormingTest, OthersStayAlone) {
  auto client = mount(10);
  auto asker = tool();
  const Group unwanted = make_group(client, {.members = 2, .bytes = kLarge, .has_row = false});
  want_groups(asker, 2);
  file_ = 0;
  next_block_ = 0;
  const auto reply = call(client, create_request("grouped"));
  ASSERT_EQ(reply.error(), 0);
  file_ = reply.attr().inode().ino();
  const Group small = make_group(client, {.members = 2, .bytes = 4096, .has_row = false});
  const Group apart = make_group(client, {.members = 1, .bytes = kLarge, .has_row = false});
  const Group elsewhere =
      make_group(client, {.members = 1, .bytes = kLarge, .has_row = false, .rotation = 1});
  let_rest();
  for (const Group* group : {&unwanted, &small, &apart, &elsewhere}) {
    for (const auto& stripe : group->stripes) EXPECT_EQ(record(stripe.id()).row(), 0u);
  }
}

TEST_F(GroupFormingTest, StripesOfSmallShardsAreFullForTheirSize) {
  auto client = mount(10);
  auto asker = tool();
  want_groups(asker, 3);
  constexpr uint32_t kShard = 128 << 10;
  Group group = make_group(client, {.bytes = kShard / 2, .has_row = false, .shard_bytes = kShard});
  const Group other = make_group(
      client, {.members = 2, .bytes = kShard, .has_row = false, .shard_bytes = 2 * kShard});
  let_rest();
  expect_grouped(group);
  EXPECT_EQ(group.stripes.back().shard_bytes(), kShard);
  for (const auto& stripe : other.stripes) EXPECT_EQ(record(stripe.id()).row(), 0u);
}

TEST_F(GroupFormingTest, ADamagedMemberIsLeftToTheRepair) {
  auto client = mount(10);
  auto asker = tool();
  want_groups(asker, 2);
  const Group group = make_group(client, {.members = 2, .bytes = kLarge, .has_row = false});
  corrupt(group, {1, 2});
  let_rest();
  const auto& spoiled = group.stripes[1];
  const auto repaired = [&] {
    return record(spoiled.id()).shards(2).instance() != spoiled.shards(2).instance();
  };
  EXPECT_TRUE(until(repaired)) << "who would sum it up has noticed";
  EXPECT_EQ(record(group.stripes[0].id()).row(), 0u) << "nothing unverified is summed up";
  EXPECT_EQ(repair_all(asker).queued(), 0u);
  expect_whole(group);
}

}  // namespace
}  // namespace datacloud
