// What is shown to and by the server of a site, from files.
#include "common/store/remote/site_credentials.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <fstream>

#include "common/config/node_certificate.h"
#include "common/rpc/rpc_dial.h"
#include "tests/support/served_site.h"
#include "tests/support/store_calls.h"

namespace datacloud {
namespace {

using testing::HasSubstr;

class SiteCredentials : public testing::Test {
 protected:
  // The files of a node that has joined.
  Config node(const std::string& name, NodeRoles roles, int64_t age_ns = 0) {
    const auto credentials = cloud_.credentials(name, roles, kTestDayNs, age_ns);
    Config config;
    config.node.daemon = {"tls://daemon:1"};
    config.node.key = directory_.path() / "node.key";
    config.node.certificate = directory_.path() / "node.crt";
    config.node.authority = directory_.path() / "authority.crt";
    EXPECT_TRUE(replace_file(config.node.key, credentials.key.pem()));
    EXPECT_TRUE(replace_file(config.node.certificate, certificate_pem(credentials.certificate)));
    EXPECT_TRUE(replace_file(config.node.authority, certificate_pem(credentials.authority)));
    return config;
  }
  Config daemon() {
    Config config;
    config.keys.service = directory_.path() / "service.key";
    ::unlink(config.keys.service.c_str());
    EXPECT_TRUE(write_key_file(
        config.keys.service,
        {KeyFileKind::service, cloud_.authority.cloud_uuid(), SecretKey(ByteView(Bytes(32, 7)))}));
    return config;
  }
  static std::string problem(const Config& config, const std::string& site) {
    const auto opened = SiteCertificate::open(config, site);
    EXPECT_FALSE(opened);
    return opened ? "" : opened.error().text();
  }

  const TestCloud cloud_;
  const TemporaryDirectory directory_;
};

TEST_F(SiteCredentials, AServerHasTheRoleAndTheName) {
  const auto good = SiteCertificate::open(node("oslo", NodeRole::site), "oslo");
  ASSERT_TRUE(good) << good.error().text();
  EXPECT_EQ(good.value().cloud_uuid(), cloud_.authority.cloud_uuid());
  EXPECT_THAT(problem(node("oslo", NodeRole::site), "quito"),
              HasSubstr("node add quito --role site"));
  EXPECT_THAT(problem(node("oslo", NodeRole::mount), "oslo"), HasSubstr("role site"));
  EXPECT_THAT(problem(node("oslo", NodeRole::site, 2 * kTestDayNs), "oslo"), HasSubstr("expired"));
  Config absent = daemon();
  absent.keys.service = directory_.path() / "nothing";
  EXPECT_THAT(problem(absent, "oslo"), HasSubstr("nothing"));
}

// The whole way: server and client from the service key, and from the files of nodes.
TEST_F(SiteCredentials, TheyFitTogether) {
  ServedSite site;
  const auto talk = [&](const Config& server, const SiteConfig& client) -> result<void> {
    TRY(auto opened, SiteCertificate::open(server, "oslo"));
    const auto certificate = std::make_shared<SiteCertificate>(std::move(opened));
    SiteServerOptions options;
    options.cloud_uuid = certificate->cloud_uuid();
    options.site = "oslo";
    options.listen = {site.address()};
    options.context = [certificate] { return certificate->context(); };
    options.open = [&](const SiteMarker& marker) -> result<std::unique_ptr<ObjectStore>> {
      return make_directory_store({site.root(), marker, 1, nullptr});
    };
    TRY(const auto running, SiteServer::start(std::move(options)));
    RemoteStoreOptions remote = site.options_for();
    remote.context = [client] { return site_client_context(client); };
    return check(*make_remote_store(std::move(remote)));
  };
  SiteConfig of_daemon;
  of_daemon.name = "oslo";
  of_daemon.service_key = daemon().keys.service;
  const auto first = talk(daemon(), of_daemon);
  EXPECT_TRUE(first) << first.error().text();
  const auto second = talk(node("oslo", NodeRole::site), of_daemon);
  EXPECT_TRUE(second) << second.error().text();
  SiteConfig of_node;
  of_node.name = "oslo";
  of_node.node = node("gpu07", NodeRole::mount).node;
  const auto third = talk(daemon(), of_node);
  EXPECT_TRUE(third) << third.error().text();
  of_node.node.daemon.clear();
  const auto neither = talk(daemon(), of_node);
  ASSERT_FALSE(neither);
  EXPECT_THAT(neither.error().text(), HasSubstr("datacloud join"));
}

}  // namespace
}  // namespace datacloud
