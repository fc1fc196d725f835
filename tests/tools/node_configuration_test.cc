// What `datacloud join` writes is what the programs read.
#include "tools/node_configuration.h"

#include <gtest/gtest.h>

namespace datacloud {
namespace {

TEST(NodeConfiguration, IsReadAsItWasMeant) {
  Config daemon;
  SiteConfig directory;
  directory.name = "oslo";
  directory.store = "directory";
  directory.path = "/srv/with \"quotes\", back\\slashes and\ttabs";
  SiteConfig pool;
  pool.name = "quito";
  pool.store = "rados";
  pool.conf = "/etc/ceph/quito.conf";
  pool.user = "client.nodes";
  pool.keyring = "/etc/ceph/keyring";
  pool.pool = "datacloud";
  pool.nspace = "demo";
  daemon.sites = {directory, pool};
  const auto files = node_files("/etc/datacloud", "demo");
  const std::vector<std::string> addresses = {"tls://daemon:7411", "tls://[::1]:7411"};
  const std::string text =
      node_configuration("demo", "gpu07", addresses, files, true, shared_configuration(daemon));
  const auto read = parse_config(text, files.configuration);
  ASSERT_TRUE(read) << read.error().text() << "\n" << text;
  const Config& node = read.value();
  EXPECT_TRUE(node.node.joined());
  EXPECT_EQ(node.cloud.name, "demo");
  EXPECT_EQ(node.daemon_addresses(), addresses);
  EXPECT_EQ(node.node.key, "/etc/datacloud/demo.node.key");
  EXPECT_EQ(node.node.certificate, "/etc/datacloud/demo.node.crt");
  EXPECT_EQ(node.node.authority, "/etc/datacloud/demo.authority.crt");
  EXPECT_EQ(node.keys.data, "/etc/datacloud/demo.data.key");
  EXPECT_TRUE(node.keys.service.empty());
  ASSERT_EQ(node.sites.size(), 2u);
  EXPECT_EQ(node.sites[0].path, directory.path);
  EXPECT_EQ(node.sites[1].keyring, pool.keyring);
  EXPECT_EQ(node.sites[1].user, pool.user);
  EXPECT_EQ(node.sites[1].nspace, pool.nspace);
  const auto keyless = parse_config(
      node_configuration("demo", "eyes", addresses, files, false, shared_configuration(daemon)),
      files.configuration);
  ASSERT_TRUE(keyless) << keyless.error().text();
  EXPECT_TRUE(keyless.value().keys.data.empty());
}

// Directories that are served here are given to nodes as what can be reached.
TEST(NodeConfiguration, ServedDirectoriesBecomeRemote) {
  Config daemon;
  SiteConfig plain;
  plain.name = "oslo";
  plain.store = "directory";
  plain.path = "/srv/oslo";
  plain.serve = "tls://10.1.2.3:7501";
  SiteConfig named = plain;
  named.name = "quito";
  named.serve = "tls://0.0.0.0:7502";
  named.address = "tls://quito.example.org:7502";
  SiteConfig here = named;
  here.name = "lima";
  here.serve = "tls://[::]:7503";
  here.address.clear();
  SiteConfig far = named;
  far.name = "cairo";
  far.store = "remote";
  far.serve.clear();
  far.address = "tls://cairo:1";
  daemon.sites = {plain, named, here, far};
  const auto files = node_files("/etc/datacloud", "demo");
  const std::string text = node_configuration("demo", "gpu07", {"tls://daemon:7411"}, files, true,
                                              shared_configuration(daemon));
  const auto read = parse_config(text, files.configuration);
  ASSERT_TRUE(read) << read.error().text() << "\n" << text;
  const auto& sites = read.value().sites;
  ASSERT_EQ(sites.size(), 4u);
  for (const auto& site : sites) {
    EXPECT_EQ(site.store, "remote");
    EXPECT_TRUE(site.node.joined()) << "the node's certificate is shown there";
  }
  EXPECT_EQ(sites[0].address, "tls://10.1.2.3:7501");
  EXPECT_EQ(sites[1].address, "tls://quito.example.org:7502");
  EXPECT_NE(sites[2].address, "tls://[::]:7503") << "this machine's name";
  EXPECT_EQ(sites[3].address, "tls://cairo:1");
  EXPECT_EQ(text.find("/srv"), std::string::npos);
}

// Of RADOS sites, with Ceph users of the node's own.
TEST(NodeConfiguration, KeyringsAreWrittenWhereTheNodeJoins) {
  Config daemon;
  for (const std::string name : {"oslo", "_lima"}) {
    SiteConfig site;
    site.name = name;
    site.store = "rados";
    site.conf = "/etc/ceph of/" + name + ".conf";
    site.keyring = "/etc/ceph/shared";
    site.pool = "datacloud";
    daemon.sites.push_back(site);
  }
  auto users = ceph_users_of(daemon, "gpu07", "UUID", true);
  ASSERT_EQ(users.size(), 2u);
  EXPECT_EQ(users[0].capabilities, "allow r class-read pool=datacloud namespace=UUID");
  EXPECT_EQ(ceph_users_of(daemon, "gpu07", "UUID", false)[0].capabilities,
            "allow rwx pool=datacloud namespace=UUID");
  EXPECT_EQ(creation_command(users[1], "k"),
            "ceph --conf '/etc/ceph of/_lima.conf' auth get-or-create "
            "client.datacloud.gpu07 mon 'allow r' osd 'allow r class-read pool=datacloud "
            "namespace=UUID' -o k");
  users[0].key = "AQBnotakey==";
  const auto placed = place_keyrings(shared_configuration(daemon, users), "/n", "demo");
  ASSERT_TRUE(placed) << placed.error().text();
  ASSERT_EQ(placed.value().files.size(), 2u);
  EXPECT_EQ(placed.value().files[0].path, "/n/demo.oslo.keyring");
  EXPECT_EQ(placed.value().files[0].text, "[client.datacloud.gpu07]\n\tkey = AQBnotakey==\n");
  EXPECT_EQ(placed.value().files[1].path, "/n/demo.site-2.keyring");
  EXPECT_EQ(placed.value().files[1].text, "") << "to be made by hand";
  const auto files = node_files("/n", "demo");
  const std::string text = node_configuration("demo", "gpu07", {"tls://daemon:7411"}, files, true,
                                              placed.value().shared);
  const auto read = parse_config(text, files.configuration);
  ASSERT_TRUE(read) << read.error().text() << "\n" << text;
  EXPECT_EQ(read.value().sites[0].user, "client.datacloud.gpu07");
  EXPECT_EQ(read.value().sites[0].keyring, "/n/demo.oslo.keyring");
  EXPECT_EQ(read.value().sites[1].keyring, "/n/demo.site-2.keyring");
  EXPECT_EQ(text.find("AQBnotakey"), std::string::npos) << "the key is in its file alone";
  const auto unknown =
      parse_config(node_configuration("demo", "gpu07", {"tls://daemon:7411"}, files, true,
                                      shared_configuration(daemon, users)),
                   files.configuration);
  EXPECT_TRUE(unknown) << "older programs take the line for a comment";
  for (const std::string wrong : {"../x client.a k", "a b c", "a client.a", "a client.a k\"", ""})
    EXPECT_FALSE(place_keyrings("#! ceph-keyring " + wrong + "\n", "/n", "demo")) << wrong;
}

TEST(NodeConfiguration, ADaemonAndANodeAreNotOne) {
  const std::string text =
      "[cloud]\nname = \"demo\"\n[node]\ndaemon = [\"tls://h:7\"]\nkey = \"/k\"\n"
      "certificate = \"/c\"\nauthority = \"/a\"\n[[site]]\nname = \"s\"\nstore = \"directory\"\n"
      "path = \"/s\"\n";
  EXPECT_TRUE(parse_config(text, "f.toml"));
  const auto both =
      parse_config(text + "[daemon]\nstate = \"/s\"\nlisten = \"unix:/a\"\n", "f.toml");
  ASSERT_FALSE(both);
  EXPECT_NE(both.error().text().find("[daemon]"), std::string::npos);
  for (const std::string wrong : {"[]", "\"tls://h:7\"", "[\"unix:/a\"]", "[\"tls://h\"]", "[7]"}) {
    std::string changed = text;
    changed.replace(changed.find("[\"tls://h:7\"]"), 13, wrong);
    EXPECT_FALSE(parse_config(changed, "f.toml")) << wrong;
  }
}

TEST(NodeConfiguration, BesideTheDaemonItsSocketIsUsed) {
  const auto config = parse_config(
      "[cloud]\nname = \"demo\"\n[daemon]\nstate = \"/s\"\ncertificate_ms = \"1h\"\n"
      "listen = [\"tls://0.0.0.0:7411\", \"unix:/a\", \"tls://[::]:7411\"]\n"
      "[keys]\ndata = \"/d\"\nservice = \"/e\"\n[[site]]\nname = \"s\"\nstore = \"directory\"\n"
      "path = \"/p\"\n",
      "f.toml");
  ASSERT_TRUE(config) << config.error().text();
  EXPECT_EQ(config.value().daemon_addresses(), std::vector<std::string>{"unix:/a"});
  EXPECT_EQ(config.value().daemon.certificate_ms, 3'600'000u);
}

}  // namespace
}  // namespace datacloud
