// Ranges of ids: both directions, borders, overlaps, and random maps against a plain list.
#include "fs/fuse/id_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>

#include "tests/support/seeded.h"

namespace datacloud {
namespace {

using testing::HasSubstr;

std::string refusal(IdMap& map, const IdMap::Range& range) {
  auto added = map.add(range);
  EXPECT_FALSE(added) << range.cloud << " " << range.local << " " << range.count;
  return added ? "" : added.error().text();
}

TEST(IdMap, BothDirectionsUpToTheBorders) {
  IdMap map;
  EXPECT_TRUE(map.empty());
  ASSERT_TRUE(map.add({0, 0, 1}));
  ASSERT_TRUE(map.add({1000, 5000, 10}));
  ASSERT_TRUE(map.add({1010, 1000, 1}));
  EXPECT_EQ(map.ranges(), 3u);
  EXPECT_EQ(map.to_local(0), 0u);
  EXPECT_EQ(map.to_local(1), std::nullopt);
  EXPECT_EQ(map.to_local(999), std::nullopt);
  EXPECT_EQ(map.to_local(1000), 5000u);
  EXPECT_EQ(map.to_local(1009), 5009u);
  EXPECT_EQ(map.to_local(1010), 1000u);
  EXPECT_EQ(map.to_local(1011), std::nullopt);
  EXPECT_EQ(map.to_cloud(4999), std::nullopt);
  EXPECT_EQ(map.to_cloud(5009), 1009u);
  EXPECT_EQ(map.to_cloud(5010), std::nullopt);
  EXPECT_EQ(map.to_cloud(1000), 1010u);
}

TEST(IdMap, EveryIdButTheInvalidOne) {
  IdMap map;
  ASSERT_TRUE(map.add({0, 0, kNoId}));
  for (const uint32_t id : {0u, 65534u, 0x80000000u, kNoId - 1}) {
    EXPECT_EQ(map.to_local(id), id);
    EXPECT_EQ(map.to_cloud(id), id);
  }
  EXPECT_EQ(map.to_local(kNoId), std::nullopt);
  EXPECT_EQ(map.to_cloud(kNoId), std::nullopt);
}

TEST(IdMap, OverlapsAreRefusedOnEitherSideAndChangeNothing) {
  IdMap map;
  ASSERT_TRUE(map.add({100, 1100, 10}));
  for (const auto& [first, count] : {std::pair{100u, 1u}, {109u, 1u}, {90u, 11u}, {90u, 100u}}) {
    EXPECT_THAT(refusal(map, {first, 5000, count}), HasSubstr("of the cloud is mapped already"));
    EXPECT_THAT(refusal(map, {5000, first + 1000, count}), HasSubstr("local id 11"));
  }
  EXPECT_THAT(refusal(map, {0, 0, 0}), HasSubstr("at least one"));
  EXPECT_THAT(refusal(map, {kNoId, 0, 1}), HasSubstr("4294967294"));
  EXPECT_THAT(refusal(map, {0, kNoId - 1, 2}), HasSubstr("4294967294"));
  EXPECT_EQ(map.ranges(), 1u);
  EXPECT_EQ(map.to_local(5000), std::nullopt);
  EXPECT_EQ(map.to_cloud(5000), std::nullopt);
  EXPECT_TRUE(map.add({90, 1110, 10}));
  EXPECT_TRUE(map.add({110, 1090, 10}));
  EXPECT_TRUE(map.add({kNoId - 1, kNoId - 1, 1}));
}

TEST(IdMap, RandomMapsAgreeWithAList) {
  Seeded random;
  for (int round = 0; round < 200; ++round) {
    IdMap map;
    std::map<uint32_t, uint32_t> to_local, to_cloud;
    const uint32_t base = random.number(0, 1) ? 0 : kNoId - 300;  // also at the upper end
    for (int i = 0; i < 30; ++i) {
      const IdMap::Range range{base + static_cast<uint32_t>(random.number(0, 300)),
                               base + static_cast<uint32_t>(random.number(0, 300)),
                               static_cast<uint32_t>(random.number(0, 40))};
      bool good = range.count > 0;
      for (uint32_t k = 0; k < range.count && good; ++k)
        good = uint64_t{range.cloud} + k < kNoId && uint64_t{range.local} + k < kNoId &&
               !to_local.contains(range.cloud + k) && !to_cloud.contains(range.local + k);
      ASSERT_EQ(map.add(range).has_value(), good)
          << range.cloud << " " << range.local << " " << range.count;
      for (uint32_t k = 0; good && k < range.count; ++k) {
        to_local[range.cloud + k] = range.local + k;
        to_cloud[range.local + k] = range.cloud + k;
      }
    }
    for (uint64_t id = base; id <= std::min<uint64_t>(base + uint64_t{400}, kNoId); ++id) {
      const auto key = static_cast<uint32_t>(id);
      const auto local = map.to_local(key), cloud = map.to_cloud(key);
      ASSERT_EQ(local.has_value(), to_local.contains(key)) << id;
      ASSERT_EQ(cloud.has_value(), to_cloud.contains(key)) << id;
      if (local) {
        ASSERT_EQ(*local, to_local[key]);
        ASSERT_EQ(map.to_cloud(*local), key);
      }
      if (cloud) {
        ASSERT_EQ(*cloud, to_cloud[key]);
        ASSERT_EQ(map.to_local(*cloud), key);
      }
    }
  }
}

}  // namespace
}  // namespace datacloud
