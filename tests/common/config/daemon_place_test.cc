// What a daemon tells of where it is.
#include "common/config/daemon_place.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "common/net/address.h"
#include "common/tls/node_identity.h"

namespace datacloud {
namespace {

using testing::ElementsAre;

std::string host() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "";
}

TEST(DaemonPlace, IsWhatTheConfigurationSays) {
  DaemonConfig config;
  config.listen = {"unix:/run/a", "tls://0.0.0.0:7411"};
  config.name = "oslo";
  config.advertise = {"tls://oslo.example.org:7411", "tls://oslo.example.org:7411", "unix:/b"};
  EXPECT_EQ(daemon_name(config), "oslo");
  EXPECT_THAT(advertised_addresses(config), ElementsAre("tls://oslo.example.org:7411", "unix:/b"));
}

TEST(DaemonPlace, IsThisMachineByDefault) {
  DaemonConfig config;
  config.listen = {"unix:/run/a", "tls://0.0.0.0:7411", "tls://[::]:7411", "tls://10.0.0.1:7"};
  EXPECT_TRUE(valid_node_name(daemon_name(config))) << daemon_name(config);
  EXPECT_EQ(daemon_name(config).find('.'), std::string::npos);
  const std::string here = to_text({host(), 7411});
  EXPECT_THAT(advertised_addresses(config), ElementsAre("unix:/run/a", here, "tls://10.0.0.1:7"))
      << "one that stands for all is told as the machine's name, once";
}

TEST(DaemonPlace, IsBounded) {
  DaemonConfig config;
  for (int i = 1; i <= 16; ++i) config.listen.push_back("tls://10.0.0.1:" + std::to_string(i));
  EXPECT_EQ(advertised_addresses(config).size(), 8u);
}

}  // namespace
}  // namespace datacloud
