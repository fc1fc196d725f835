// DC_CHECK: nothing happens while the condition holds; the program ends, saying what, when not.
#include "common/base/check.h"

#include <gtest/gtest.h>

#include "common/base/log.h"

namespace datacloud {
namespace {

TEST(Check, PassesWithoutMakingTheText) {
  int asked = 0;
  const auto text = [&] {
    ++asked;
    return std::string("unused");
  };
  DC_CHECK(1 + 1 == 2, text());
  EXPECT_EQ(asked, 0);
}

TEST(CheckDeathTest, EndsTheProgramAndSaysWhat) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const int left = -1;
  EXPECT_DEATH(
      {
        start_logging("check_test", "", false);  // to stderr
        DC_CHECK(left >= 0, "left is " + std::to_string(left));
      },
      "base/check_test.cc:[0-9]+: left >= 0 does not hold: left is -1");
}

}  // namespace
}  // namespace datacloud
