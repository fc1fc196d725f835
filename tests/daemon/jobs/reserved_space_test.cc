// Whether reservations of several codes fit into sites of several sizes.
#include "daemon/jobs/reserved_space.h"

#include <gtest/gtest.h>

#include "daemon/jobs/site_space.h"

namespace datacloud {
namespace {

std::map<SiteId, uint64_t> sites(const std::vector<uint64_t>& free) {
  std::map<SiteId, uint64_t> out;
  for (size_t i = 0; i < free.size(); ++i) out[static_cast<SiteId>(i + 1)] = free[i];
  return out;
}

TEST(ReservedSpace, TakesNOverKAndALittle) {
  const auto left = left_after(sites({1000, 1000, 1000, 1000, 1000}), {{3, 5, 1920}});
  ASSERT_TRUE(left);
  for (const auto& [site, bytes] : *left) EXPECT_EQ(bytes, 1000u - 650u) << "(1920 + 30) / 3";
  EXPECT_TRUE(left_after(sites({650, 650, 650, 650, 650}), {{3, 5, 1920}}));
  EXPECT_FALSE(left_after(sites({649, 650, 650, 650, 650}), {{3, 5, 1920}}));
}

TEST(ReservedSpace, FillsTheEmptiestFirst) {
  const auto left = left_after(sites({1000, 900, 100}), {{1, 2, 640}});  // 650 a column
  ASSERT_TRUE(left);
  EXPECT_LE(left->at(1), 350u);
  EXPECT_GE(left->at(1) + 2, 350u);
  EXPECT_GE(left->at(2) + 2, 250u);
  EXPECT_EQ(left->at(3), 100u);
  EXPECT_FALSE(left_after(sites({10'000, 100, 100}), {{1, 2, 640}})) << "two copies, two sites";
}

TEST(ReservedSpace, CountsAllCodes) {
  EXPECT_TRUE(left_after(sites({1300, 1300}), {{1, 2, 640}, {2, 2, 1280}}));
  EXPECT_FALSE(left_after(sites({1299, 1300}), {{1, 2, 640}, {2, 2, 1280}}));
  EXPECT_FALSE(left_after({}, {{1, 1, 1}})) << "nowhere to put it";
  EXPECT_TRUE(left_after({}, {{1, 1, 0}})) << "nothing";
  EXPECT_FALSE(left_after(sites({UINT64_MAX}), {{1, 1, UINT64_MAX}})) << "no overflow";
}

TEST(ReservedSpace, LeavesWhatElseFits) {
  const auto left = left_after(sites({1000, 1000, 1000, 1000, 1000}), {{3, 5, 1920}});
  std::vector<uint64_t> free;
  for (const auto& [site, bytes] : *left) free.push_back(bytes);
  EXPECT_EQ(logical_capacity(free, 3, 5), 3u * 350);
}

}  // namespace
}  // namespace datacloud
