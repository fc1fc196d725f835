// Windows of the week, over midnight and over Sunday, and what is none.
#include "common/base/time_windows.h"

#include <gtest/gtest.h>

namespace datacloud {
namespace {

// Days as std::tm has them: 0 is Sunday.
bool open(const std::vector<std::string>& windows, int weekday, int hour, int minute) {
  auto parsed = TimeWindows::parse(windows);
  EXPECT_TRUE(parsed) << parsed.error().message();
  std::tm local{};
  local.tm_wday = weekday;
  local.tm_hour = hour;
  local.tm_min = minute;
  return parsed.value().open_at(local);
}

TEST(TimeWindows, NoneIsAlways) { EXPECT_TRUE(open({}, 3, 12, 0)); }

TEST(TimeWindows, HoursOfEveryDay) {
  EXPECT_TRUE(open({"01:30-05:00"}, 0, 1, 30));
  EXPECT_FALSE(open({"01:30-05:00"}, 0, 1, 29));
  EXPECT_FALSE(open({"01:30-05:00"}, 0, 5, 0));
}

TEST(TimeWindows, OverMidnightBelongsToTheDayItBegan) {
  const std::vector<std::string> nights{"mon-fri 19:00-07:00"};
  EXPECT_TRUE(open(nights, 1, 19, 0));   // Monday evening
  EXPECT_FALSE(open(nights, 1, 6, 59));  // Sunday's night is none
  EXPECT_TRUE(open(nights, 6, 6, 59));   // Saturday morning is Friday's
  EXPECT_FALSE(open(nights, 6, 19, 0));
}

TEST(TimeWindows, WholeDaysAndRangesOverSunday) {
  EXPECT_TRUE(open({"sat-sun"}, 0, 12, 0));
  EXPECT_FALSE(open({"sat-sun"}, 1, 0, 0));
  EXPECT_TRUE(open({"sat-mon 10:00-11:00"}, 1, 10, 59));
  EXPECT_FALSE(open({"sat-mon 10:00-11:00"}, 2, 10, 30));
  EXPECT_TRUE(open({"20:00-24:00"}, 2, 23, 59));
  EXPECT_TRUE(open({"wed", "fri 01:00-02:00"}, 5, 1, 0));
}

TEST(TimeWindows, WhatIsNoneIsRefusedByItsText) {
  for (const char* text : {"", "noon", "mon-", "25:00-26:00", "10:00", "10:00-9:00", "mon 10-11",
                           "10:60-11:00", "mon ", "24:00-06:00", "mon-fri-sat 10:00-11:00"}) {
    const auto parsed = TimeWindows::parse({text});
    ASSERT_FALSE(parsed) << text;
    EXPECT_NE(parsed.error().text().find(text), std::string::npos);
  }
  EXPECT_FALSE(TimeWindows::parse(std::vector<std::string>(65, "mon")));
}

}  // namespace
}  // namespace datacloud
