// Which protocol two programs agree on, and what is said when there is none.
#include "common/rpc/protocol_range.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace datacloud {
namespace {

using testing::HasSubstr;

TEST(ProtocolRange, TheNewestThatBothSpeak) {
  EXPECT_EQ(common_protocol({2, 2}, {2, 2}), 2u);
  EXPECT_EQ(common_protocol({2, 5}, {3, 9}), 5u);
  EXPECT_EQ(common_protocol({3, 9}, {2, 5}), 5u);
  EXPECT_EQ(common_protocol({2, 3}, {3, 3}), 3u);
  EXPECT_EQ(common_protocol({2, 3}, {4, 6}), std::nullopt);
  EXPECT_EQ(common_protocol({4, 6}, {2, 3}), std::nullopt);
}

TEST(ProtocolRange, OfAHello) {
  pb::HelloRequest hello;
  hello.set_protocol(4);
  EXPECT_EQ(protocols_of(hello).oldest, 4u) << "programs before ranges speak one";
  hello.set_protocol_min(2);
  EXPECT_EQ(protocols_of(hello).text(), "2 to 4");
  hello.set_protocol_min(9);
  EXPECT_EQ(protocols_of(hello).text(), "4") << "nonsense is none";
}

TEST(ProtocolRange, ARefusalNamesBothSidesAndTheRemedy) {
  const auto old_client = no_common_protocol({"0.9", {4, 6}}, {"0.2", {2, 3}}).text();
  EXPECT_EQ(old_client,
            "the daemon (Data Cloud 0.9) speaks protocol 4 to 6, this program (Data Cloud 0.2) "
            "protocol 2 to 3: install Data Cloud 0.9 or later on this machine");
  const auto old_daemon = no_common_protocol({"0.2", {2, 2}}, {"0.9", {4, 6}}).text();
  EXPECT_THAT(old_daemon, HasSubstr("install Data Cloud 0.9 or later where the daemon runs"));
  EXPECT_THAT(no_common_protocol({"", {4, 4}}, {"0.2", {2, 2}}).text(),
              HasSubstr("install a newer Data Cloud or later on this machine"));
  EXPECT_LT(no_common_protocol({"", {4, 4}}, {std::string(5000, 'x'), {2, 2}}).text().size(), 400u);
}

}  // namespace
}  // namespace datacloud
