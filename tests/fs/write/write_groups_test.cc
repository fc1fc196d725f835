// XOR rows made while writing: what they hold, where they are, and when there is none.
#include <gmock/gmock.h>

#include "tests/fs/write/write_cloud.h"
#include "tests/support/seeded.h"
#include "tests/support/slowdown.h"

namespace datacloud {
namespace {

constexpr uint32_t kBlock = 1 << 20;

class WriteGroupsTest : public testing::Test {
 protected:
  WriteGroupsTest() { cloud_.config.put_deadline_ms *= kSlowdown; }  // 24 MiB are coded at once

  // A unit that fills one stripe of rs-2-1, or a part of it.
  FlushUnit unit(InodeId ino, uint64_t first, uint32_t group, size_t blocks = 8) {
    std::vector<Bytes> plain;
    for (size_t i = 0; i < blocks; ++i) plain.push_back(random_.bytes(kBlock - i));
    FlushUnit u = WriteCloud::unit(ino, first, plain);
    u.code = "rs-2-1";
    u.block_bytes = kBlock;
    u.compression = Compression::none;
    u.group = group;
    return u;
  }
  std::vector<FlushResult> write(std::vector<FlushUnit> units) {
    std::vector<std::future<result<FlushResult>>> writes;
    for (auto& u : units) writes.push_back(cloud_.write(std::move(u)));
    std::vector<FlushResult> done;
    for (auto& w : writes) {
      auto outcome = w.get();
      EXPECT_TRUE(outcome) << outcome.error().message();
      if (outcome) done.push_back(std::move(outcome.value()));
    }
    return done;
  }
  // Waits for rows under way; ends the pipeline.
  std::vector<pb::Stripe> rows() {
    cloud_.pipeline.reset();
    EXPECT_THAT(cloud_.daemon.violations, testing::IsEmpty());
    std::vector<pb::Stripe> rows;
    for (const auto& [id, stripe] : cloud_.daemon.stripes) {
      if (stripe.members_size() > 0) rows.push_back(stripe);
    }
    return rows;
  }
  // The row is the sum of its members, and every column is at one site.
  void expect_sum(const pb::Stripe& row) {
    std::vector<Bytes> sum(static_cast<size_t>(row.shards_size()));
    for (const StripeId id : row.members()) {
      const pb::Stripe& member = cloud_.daemon.stripes.at(id);
      EXPECT_EQ(member.code(), row.code());
      const auto columns = cloud_.columns(member);
      ASSERT_TRUE(columns) << columns.error().message();
      for (size_t c = 0; c < sum.size(); ++c) {
        const Bytes& column = columns.value()[c];
        if (column.size() > sum[c].size()) sum[c].resize(column.size());
        for (size_t i = 0; i < column.size(); ++i) sum[c][i] ^= column[i];
        EXPECT_EQ(member.shards(static_cast<int>(c)).site(),
                  row.shards(static_cast<int>(c)).site());
      }
    }
    const auto columns = cloud_.columns(row);
    ASSERT_TRUE(columns) << columns.error().message();
    EXPECT_TRUE(columns.value() == sum) << "row " << row.id();
    EXPECT_EQ(row.slot_column_size(), 0);
  }

  Seeded random_;
  WriteCloud cloud_;
};

TEST_F(WriteGroupsTest, ConsecutiveFullStripesGetARowAtTheirSites) {
  cloud_.start();
  std::vector<FlushUnit> units;
  for (uint64_t i = 0; i < 6; ++i) units.push_back(unit(5, 8 * i, 3, i == 4 ? 5 : 8));
  write(std::move(units));
  const auto found = rows();
  ASSERT_EQ(found.size(), 2u);
  std::set<StripeId> members;
  for (const auto& row : found) {
    ASSERT_EQ(row.members_size(), 3);
    members.insert(row.members().begin(), row.members().end());
    expect_sum(row);
  }
  EXPECT_EQ(members.size(), 6u);
  EXPECT_NE(found[0].shards(0).site(), found[1].shards(0).site()) << "the mapping rotates";
}

TEST_F(WriteGroupsTest, WithoutThePolicyThereAreNoRows) {
  cloud_.start();
  write({unit(5, 0, 0), unit(5, 8, 0), unit(5, 16, 0)});
  EXPECT_THAT(rows(), testing::IsEmpty());
  EXPECT_EQ(cloud_.daemon.stripes.size(), 3u);
}

TEST_F(WriteGroupsTest, SmallStripesAndLeftoversStayUngrouped) {
  cloud_.start();
  write({unit(5, 0, 2), unit(5, 8, 2, 1), unit(5, 9, 2, 2), unit(5, 11, 2), unit(5, 19, 2)});
  const auto found = rows();
  ASSERT_EQ(found.size(), 1u);
  expect_sum(found[0]);
  EXPECT_EQ(cloud_.daemon.stripes.size(), 6u);
}

TEST_F(WriteGroupsTest, StreamsOfDifferentPoliciesDoNotMix) {
  cloud_.start();
  std::vector<FlushUnit> units;
  for (uint64_t i = 0; i < 2; ++i) {
    units.push_back(unit(5, 8 * i, 2));
    units.push_back(unit(6, 8 * i, 2));
    units.back().home_site = 3;
  }
  write(std::move(units));
  const auto found = rows();
  ASSERT_EQ(found.size(), 2u);
  int at_home = 0;
  for (const auto& row : found) {
    expect_sum(row);
    at_home += row.shards(0).site() == 3;
  }
  EXPECT_GE(at_home, 1);
}

TEST_F(WriteGroupsTest, AFailedMemberLeavesTheOthersUngrouped) {
  cloud_.start();
  write({unit(5, 0, 2)});
  for (int site = 0; site < 5; ++site) {
    cloud_.set_fault(site, {.kind = Fault::Kind::fail_before, .error = Error(Errc::io, "broken")});
  }
  EXPECT_FALSE(cloud_.write(unit(6, 0, 2)).get());
  for (int site = 0; site < 5; ++site) cloud_.set_fault(site, {});
  write({unit(7, 0, 2), unit(7, 8, 2)});
  const auto found = rows();
  ASSERT_EQ(found.size(), 1u);
  expect_sum(found[0]);
}

TEST_F(WriteGroupsTest, ARedoneMemberIsNotCountedTwice) {
  cloud_.start();
  write({unit(5, 0, 2)});
  cloud_.daemon.revoke_ids();
  write({unit(5, 8, 2)});
  write({unit(5, 16, 2), unit(5, 24, 2)});
  for (const auto& row : rows()) expect_sum(row);
  EXPECT_GE(cloud_.daemon.revocations_met, 1);
}

TEST_F(WriteGroupsTest, ARowThatIsRefusedIsAbandoned) {
  cloud_.start();
  write({unit(5, 0, 2)});
  cloud_.ids.revoked();
  auto last = cloud_.write(unit(5, 8, 2));
  ASSERT_TRUE(last.get());
  // Between the members' commit and the row's: whichever comes next is refused.
  cloud_.daemon.fail_commits(1, Error(Errc::invalid, "refused by the test"));
  const auto found = rows();
  if (found.empty()) {
    std::lock_guard lock(cloud_.daemon.mutex());
    EXPECT_EQ(cloud_.daemon.abandoned.size(), 3u);
  }
}

TEST_F(WriteGroupsTest, ManyStreamsShareABoundedNumberOfOpenGroups) {
  cloud_.start();
  for (uint64_t round = 0; round < 2; ++round) {
    for (uint32_t group = 2; group < 7; ++group) write({unit(group, 8 * round, group)});
  }
  for (const auto& row : rows()) expect_sum(row);
}

}  // namespace
}  // namespace datacloud
