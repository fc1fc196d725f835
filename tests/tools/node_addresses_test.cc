// Which addresses a machine that joins is told.
#include "tools/node_addresses.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace datacloud {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

pb::HelloReply places(const std::vector<std::vector<std::string>>& daemons, size_t leader) {
  pb::HelloReply hello;
  for (size_t i = 0; i < daemons.size(); ++i) {
    auto* place = hello.add_daemons();
    place->set_leads(i == leader);
    for (const auto& address : daemons[i]) place->add_addresses(address);
  }
  return hello;
}

std::vector<std::string> listening(const std::vector<std::string>& addresses,
                                   size_t count_max = 8) {
  pb::HelloReply hello;
  google::protobuf::RepeatedPtrField<std::string> listen(addresses.begin(), addresses.end());
  return node_addresses({}, hello.daemons(), listen, count_max);
}

TEST(NodeAddresses, AreOneOfEachDaemonFirst) {
  const auto hello = places(
      {{"tls://b:1", "tls://b:2", "tls://b:3"}, {"unix:/run/a", "tls://a:1", "tls://a:2"}}, 1);
  EXPECT_THAT(node_addresses({}, hello.daemons(), {}, 8),
              ElementsAre("tls://a:1", "tls://b:1", "tls://a:2", "tls://b:2", "tls://b:3"));
  EXPECT_THAT(node_addresses({}, hello.daemons(), {}, 2), ElementsAre("tls://a:1", "tls://b:1"));
  NodeConfig node;
  node.daemon = {"tls://own:1", "tls://a:1", "unix:/run/b"};
  EXPECT_THAT(node_addresses(node, places({{"tls://a:1"}}, 0).daemons(), {}, 8),
              ElementsAre("tls://a:1", "tls://own:1"));
}

TEST(NodeAddresses, AreWhereTheDaemonListensWhenItTellsNone) {
  EXPECT_THAT(listening({"unix:/run/a", "tls://a:1"}), ElementsAre("tls://a:1"));
  const auto told = listening({"tls://0.0.0.0:7"});
  ASSERT_EQ(told.size(), 1u);
  EXPECT_NE(told[0], "tls://0.0.0.0:7");
  EXPECT_THAT(listening({"unix:/run/a"}), IsEmpty());
}

}  // namespace
}  // namespace datacloud
