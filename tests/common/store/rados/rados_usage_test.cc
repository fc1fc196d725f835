// What the monitors say about a pool, as Ceph 16 writes it, and what they may not be made to say.
#include "common/store/rados/rados_usage.h"

#include <gtest/gtest.h>

namespace datacloud {
namespace {

constexpr const char* kDf = R"({"stats":{"total_bytes":64424509440,"total_avail_bytes":60000000000},
"pools":[{"name":"other","id":1,"stats":{"stored":1,"max_avail":2}},
{"name":"data","id":2,"stats":{"stored":1000,"objects":3,"bytes_used":3000,"percent_used":0.1,
"max_avail":9000,"quota_objects":0,"quota_bytes":0}}]})";

std::string with(std::string text, const std::string& from, const std::string& to) {
  text.replace(text.find(from), from.size(), to);
  return text;
}

TEST(RadosUsage, CountsWhatThePoolCanTake) {
  const auto usage = pool_usage(kDf, "data").value();
  EXPECT_EQ(usage.bytes_free, 9000u);
  EXPECT_EQ(usage.bytes_total, 10'000u);
  EXPECT_EQ(pool_usage(with(kDf, "9000", "9.0e3"), "data").value().bytes_free, 9000u);
}

TEST(RadosUsage, AQuotaBoundsThePool) {
  const auto quota = [](const char* bytes) {
    return pool_usage(with(kDf, "\"quota_bytes\":0", std::string("\"quota_bytes\":") + bytes),
                      "data")
        .value();
  };
  EXPECT_EQ(quota("4000").bytes_free, 3000u);
  EXPECT_EQ(quota("4000").bytes_total, 4000u);
  EXPECT_EQ(quota("500").bytes_free, 0u);
  EXPECT_EQ(quota("100000").bytes_free, 9000u);
}

TEST(RadosUsage, KnowsWhenTheMonitorsKnowNothing) {
  const auto usage = pool_usage(R"({"stats":{"total_bytes":0},"pools":[]})", "data");
  EXPECT_EQ(usage.value().bytes_total, 0u);
  EXPECT_EQ(device_bytes(R"([{"id":0,"bluestore_bdev_size":"100"},{"id":1},
                             {"id":2,"bluestore_bdev_size":"23"}])")
                .value(),
            123u);
}

TEST(RadosUsage, MultipliesReplicasOrTheErasureCode) {
  EXPECT_EQ(raw_bytes_per_byte(R"({"pool":"p","size":3})", "").value(), 3.0);
  EXPECT_EQ(raw_bytes_per_byte(R"({"pool":"p","size":6})", R"({"k":"4","m":"2"})").value(), 1.5);
}

TEST(RadosUsage, RefusesNonsense) {
  for (const char* text :
       {"", "[]", "{", "null", "1e999", R"({"stats":1,"pools":2})", R"({"stats":{},"pools":{}})"}) {
    EXPECT_FALSE(pool_usage(text, "data")) << text;
    EXPECT_FALSE(raw_bytes_per_byte(text, "")) << text;
  }
  EXPECT_FALSE(raw_bytes_per_byte(R"({"size":0})", ""));
  EXPECT_FALSE(raw_bytes_per_byte(R"({"size":3})", R"({"k":"0"})"));
  EXPECT_FALSE(raw_bytes_per_byte(R"({"size":3})", R"({"k":"9"})"));
  EXPECT_FALSE(device_bytes("{}"));
  const auto usage = pool_usage(R"({"stats":{"total_bytes":"18446744073709551615"},
      "pools":[1,{"name":5},{"name":"data"},{"name":"data","stats":{"stored":18446744073709551615,
      "max_avail":18446744073709551615}}]})",
                                "data");
  ASSERT_TRUE(usage);
  EXPECT_EQ(usage.value().bytes_total, UINT64_MAX);
}

}  // namespace
}  // namespace datacloud
