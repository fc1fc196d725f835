// Outside of its windows background work keeps to the smaller limit; it never stops by itself.
#include <gtest/gtest.h>

#include "daemon/jobs/background.h"

namespace datacloud {
namespace {

Background::Limits limits(uint64_t limit, std::tm* now) {
  Background::Limits limits;
  limits.threads = 1;
  limits.site_bytes_per_second_max = limit;
  limits.windows = TimeWindows::parse({"22:00-06:00"}).value();
  limits.outside_bytes_per_second_max = 1000;
  limits.local_time = [now] { return *now; };
  return limits;
}

TEST(BackgroundWindows, TheSmallerLimitHoldsOutside) {
  std::tm now{};
  now.tm_hour = 12;
  Background unlimited(nullptr, limits(0, &now));
  Background slow(nullptr, limits(10, &now));
  EXPECT_EQ(unlimited.current_limit(), 1000u);
  EXPECT_EQ(slow.current_limit(), 10u);
  now.tm_hour = 23;
  EXPECT_EQ(unlimited.current_limit(), 0u) << "no limit inside";
  EXPECT_TRUE(unlimited.window_open());
  unlimited.set_limit(7);
  EXPECT_EQ(unlimited.current_limit(), 7u);
}

TEST(BackgroundWindows, BytesAreHeldBackOutside) {
  std::tm now{};
  now.tm_hour = 12;
  Background background(nullptr, limits(0, &now));
  background.spend(1, 600);  // the burst of a quarter of a second and a debt
  const auto begin = monotonic_now();
  background.spend(1, 1);
  EXPECT_GE(monotonic_now() - begin, milliseconds(200));
  now.tm_hour = 23;
  const auto inside = monotonic_now();
  background.spend(1, 1'000'000'000);
  EXPECT_LT(monotonic_now() - inside, milliseconds(100));
}

TEST(BackgroundWindows, OperationsHaveABudgetOfTheirOwn) {
  Background::Limits limits;
  limits.threads = 1;
  limits.site_operations_per_second_max = 100;
  Background background(nullptr, limits);
  const auto begin = monotonic_now();
  for (int i = 0; i < 65; ++i) background.spend(1, 1'000'000);  // 25 of the burst, 40 paced
  EXPECT_GE(monotonic_now() - begin, milliseconds(380));
  const auto elsewhere = monotonic_now();
  background.spend(2, 1);
  background.spend(1, 1'000'000'000, 0);  // bytes of an operation that was counted before
  EXPECT_LT(monotonic_now() - elsewhere, milliseconds(100));
  background.set_operations_limit(0);
  const auto unlimited = monotonic_now();
  for (int i = 0; i < 1000; ++i) background.spend(1, 1);
  EXPECT_LT(monotonic_now() - unlimited, milliseconds(100));
}

TEST(BackgroundWindows, MountsComeFirstAndLeaveAnEighth) {
  Background::Limits limits;
  limits.threads = 1;
  limits.site_bytes_per_second_max = 1'000'000;
  limits.site_operations_per_second_max = 1000;
  Background background(nullptr, limits);
  const auto waited = [&](SiteId site) {
    const auto begin = monotonic_now();
    background.spend(site, 1);
    return monotonic_now() - begin;
  };
  background.foreground(1, 550'000, 0, seconds(1));  // half a second of it, beyond the burst
  EXPECT_GE(waited(1), milliseconds(250));
  background.foreground(2, 0, 550, seconds(1));
  EXPECT_GE(waited(2), milliseconds(250));
  EXPECT_LT(waited(3), milliseconds(200)) << "at another site";
  background.foreground(4, UINT64_MAX / 2, UINT64_MAX / 2, milliseconds(400));
  const auto most = waited(4);
  EXPECT_GE(most, milliseconds(300));
  EXPECT_LT(most, seconds(5)) << "whatever mounts say";
}

}  // namespace
}  // namespace datacloud
