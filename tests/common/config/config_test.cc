// The configuration: every value lands, every mistake is named with its line and a remedy.
#include "common/config/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "common/config/site_list.h"

namespace datacloud {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

const std::string kMinimal = R"([cloud]
name = "demo"
[daemon]
state = "/var/lib/datacloud/demo"
listen = "unix:/run/datacloud/demo.sock"
[keys]
data = "/etc/datacloud/demo.data.key"
service = "/etc/datacloud/demo.service.key"
[[site]]
name = "tsukuba"
store = "directory"
path = "/srv/datacloud/tsukuba"
)";

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

Config parsed(const std::string& text) {
  auto config = parse_config(text, "demo.toml");
  EXPECT_TRUE(config) << config.error().message();
  return config ? config.value() : Config{};
}

std::string error_of(const std::string& text) {
  const auto config = parse_config(text, "demo.toml");
  EXPECT_FALSE(config) << text;
  return config ? "" : config.error().text();
}

TEST(Config, MinimalHasTheDefaults) {
  const Config config = parsed(kMinimal);
  EXPECT_EQ(config.file, "demo.toml");
  EXPECT_EQ(config.cloud.name, "demo");
  EXPECT_EQ(config.cloud.code, "rs-3-2");
  EXPECT_EQ(config.cloud.block_bytes, 65536u);
  EXPECT_EQ(config.cloud.shard_bytes, 4u << 20);
  EXPECT_EQ(config.daemon.state, "/var/lib/datacloud/demo");
  EXPECT_EQ(config.daemon.listen, std::vector<std::string>{"unix:/run/datacloud/demo.sock"});
  EXPECT_EQ(config.keys.service, "/etc/datacloud/demo.service.key");
  EXPECT_EQ(config.mount.threads, MountConfig().threads);
  ASSERT_EQ(config.sites.size(), 1u);
  EXPECT_EQ(config.sites[0].name, "tsukuba");
  EXPECT_EQ(config.sites[0].path, "/srv/datacloud/tsukuba");
}

TEST(Config, EveryValueLands) {
  const Config config = parsed(R"([cloud]
name = "demo"
code = "rs-6-3"
block_bytes = "128KiB"
shard_bytes = "512KiB"
compress = "none"
write_sites_min = 2
[daemon]
state = "/s"
listen = ["unix:/a", "unix:/b"]
site = "b"
lease_ms = "30s"
sessions_max = 7
leases_max = 8
requests_in_flight_max = 9
leveldb_cache_bytes = "32MiB"
gc_interval_ms = 1500
[keys]
data = "/d"
service = "/e"
[mount]
dirty_bytes_max = "64MiB"
cache_bytes_max = 1048576
stripes_in_flight_max = 2
readahead_bytes_max = "8M"
flush_after_ms = "1s"
close_flush_after_ms = 100
put_deadline_ms = "5s"
read_deadline_ms = "2s"
hedge_after_ms = 50
rpc_deadline_ms = "1min"
threads = 3
sync_close = true
[[site]]
name = "a"
store = "directory"
path = "/a"
[[site]]
name = "b"
store = "memory"
)");
  EXPECT_EQ(config.cloud.code, "rs-6-3");
  EXPECT_EQ(config.cloud.block_bytes, 131072u);
  EXPECT_EQ(config.cloud.shard_bytes, 524288u);
  EXPECT_EQ(config.cloud.compress, "none");
  EXPECT_EQ(config.cloud.write_sites_min, 2u);
  EXPECT_EQ(config.daemon.listen, (std::vector<std::string>{"unix:/a", "unix:/b"}));
  EXPECT_EQ(config.daemon.site, "b");
  EXPECT_EQ(config.daemon.lease_ms, 30000u);
  EXPECT_EQ(config.daemon.sessions_max, 7u);
  EXPECT_EQ(config.daemon.leases_max, 8u);
  EXPECT_EQ(config.daemon.requests_in_flight_max, 9u);
  EXPECT_EQ(config.daemon.leveldb_cache_bytes, 32u << 20);
  EXPECT_EQ(config.daemon.gc_interval_ms, 1500u);
  EXPECT_EQ(config.mount.dirty_bytes_max, 64u << 20);
  EXPECT_EQ(config.mount.cache_bytes_max, 1u << 20);
  EXPECT_EQ(config.mount.stripes_in_flight_max, 2u);
  EXPECT_EQ(config.mount.readahead_bytes_max, 8u << 20);
  EXPECT_EQ(config.mount.flush_after_ms, 1000u);
  EXPECT_EQ(config.mount.close_flush_after_ms, 100u);
  EXPECT_EQ(config.mount.put_deadline_ms, 5000u);
  EXPECT_EQ(config.mount.read_deadline_ms, 2000u);
  EXPECT_EQ(config.mount.hedge_after_ms, 50u);
  EXPECT_EQ(config.mount.rpc_deadline_ms, 60000u);
  EXPECT_EQ(config.mount.threads, 3u);
  EXPECT_TRUE(config.mount.sync_close);
  ASSERT_EQ(config.sites.size(), 2u);
  EXPECT_EQ(config.sites[1].store, "memory");
}

TEST(Config, TheJournalsBoundsLandAndFitTogether) {
  EXPECT_EQ(parsed(kMinimal).journal.bytes_max, 256u << 20);
  const Config config = parsed(kMinimal + R"([journal]
bytes_max = "64MiB"
uncommitted_bytes_max = "8MiB"
segment_bytes = "4MiB"
)");
  EXPECT_EQ(config.journal.bytes_max, 64u << 20);
  EXPECT_EQ(config.journal.uncommitted_bytes_max, 8u << 20);
  EXPECT_EQ(config.journal.segment_bytes, 4u << 20);
  EXPECT_THAT(error_of(kMinimal + "[journal]\nbytes_max = \"63MiB\"\nsegment_bytes = \"16MiB\"\n"),
              HasSubstr("bytes_max is 66060288; it must be between 67108864"));
  EXPECT_THAT(error_of(kMinimal + "[journal]\nsegment_bytes = \"65MiB\"\n"),
              HasSubstr("segment_bytes"));
  EXPECT_THAT(error_of(kMinimal + "[journal]\nbytes = 1\n"), HasSubstr("unknown key"));
  const Config of_standbys = parsed(kMinimal + R"([journal]
leader_lease_ms = "2s"
takeover_after_ms = 1900
leader_stay_ms = "90s"
)");
  EXPECT_EQ(of_standbys.journal.leader_lease_ms, 2000u);
  EXPECT_EQ(of_standbys.journal.takeover_after_ms, 1900u);
  EXPECT_EQ(of_standbys.journal.leader_stay_ms, 90'000u);
  EXPECT_THAT(error_of(kMinimal + "[journal]\nleader_lease_ms = 299\n"),
              HasSubstr("leader_lease_ms"));
  EXPECT_FALSE(parsed(kMinimal).daemon.standby);
  std::string standby = kMinimal;
  const std::string table = "[daemon]\n";
  standby.insert(standby.find(table) + table.size(), "standby = true\n");
  EXPECT_TRUE(parsed(standby).daemon.standby);
  EXPECT_THAT(error_of(standby.replace(standby.find("= true"), 6, "= 1")),
              HasSubstr("standby must be true or false"));
}

TEST(Config, UnknownKeysNameTheLineAndTheNearestKey) {
  EXPECT_EQ(error_of(replaced(kMinimal, "state =", "lease_msec = 5\nstate =")),
            "demo.toml:4: unknown key \"lease_msec\" in [daemon]; did you mean \"lease_ms\"?");
  EXPECT_EQ(error_of(replaced(kMinimal, "[keys]", "[mounts]\n[keys]")),
            "demo.toml:6: unknown key \"mounts\" in the configuration; did you mean \"mount\"?");
  EXPECT_EQ(error_of(replaced(kMinimal, "data =", "zzzzzzzzzzzz = 1\ndata =")),
            "demo.toml:7: unknown key \"zzzzzzzzzzzz\" in [keys]; known are data, service");
  EXPECT_THAT(error_of(kMinimal + "pool = \"x\"\n"), StartsWith("demo.toml:13: unknown key"));
  EXPECT_THAT(error_of(kMinimal + "[mount]\nthread = 3\n"), HasSubstr("did you mean \"threads\"?"));
}

TEST(Config, SyntaxErrorsNameTheLine) {
  EXPECT_THAT(error_of(replaced(kMinimal, "\"demo\"", "demo")), StartsWith("demo.toml:2: "));
  EXPECT_THAT(error_of("[cloud"), StartsWith("demo.toml:1: "));
}

TEST(Config, MissingThingsAreNamed) {
  EXPECT_THAT(error_of(""), HasSubstr("no table [cloud]"));
  EXPECT_EQ(error_of(replaced(kMinimal, "name = \"demo\"\n", "")),
            "demo.toml:1: [cloud] has no \"name\"; give the cloud a name");
  EXPECT_THAT(error_of(replaced(kMinimal, "listen = \"unix:/run/datacloud/demo.sock\"\n", "")),
              HasSubstr("[daemon] has no \"listen\""));
  EXPECT_THAT(error_of(replaced(kMinimal, "path = \"/srv/datacloud/tsukuba\"\n", "")),
              StartsWith("demo.toml:9: [[site]] has no \"path\""));
  EXPECT_THAT(error_of(kMinimal.substr(0, kMinimal.find("[[site]]"))),
              HasSubstr("at least one site"));
}

// One wrong value each, and what its error must say.
TEST(Config, WrongValuesAreExplained) {
  const struct {
    const char *from, *to, *expected;
  } cases[] = {
      {"\"demo\"", "\"de mo\"", "demo.toml:2: \"de mo\" cannot name a cloud"},
      {"\"demo\"", "7", "demo.toml:2: name must be text in quotes"},
      {"\"demo\"", "\"demo\"\ncode = \"rs-3\"", "demo.toml:3: unknown erasure code \"rs-3\""},
      {"\"demo\"", "\"demo\"\nblock_bytes = 65537", "power of two"},
      {"\"demo\"", "\"demo\"\nblock_bytes = 2048", "between 4096 and 1048576"},
      {"\"demo\"", "\"demo\"\nblock_bytes = \"2MiB\"", "between 4096 and 1048576"},
      {"\"demo\"", "\"demo\"\nblock_bytes = -1", "must be a whole number"},
      {"\"demo\"", "\"demo\"\nshard_bytes = 98304", "power of two"},
      {"\"demo\"", "\"demo\"\nshard_bytes = \"32KiB\"", "between 65536 and 4194304"},
      {"\"demo\"", "\"demo\"\nshard_bytes = \"8MiB\"", "between 65536 and 4194304"},
      {"\"demo\"", "\"demo\"\nblock_bytes = \"1MiB\"\nshard_bytes = \"512KiB\"", "do not fit"},
      {"\"demo\"", "\"demo\"\nblock_bytes = \"64Kb\"", "is not a size"},
      {"\"demo\"", "\"demo\"\ncompress = \"gzip\"", "must be \"zstd\" or \"none\""},
      {"\"demo\"", "\"demo\"\nwrite_sites_min = 2", "but the cloud has 1 sites"},
      {"\"/var/lib/datacloud/demo\"", "\"var/lib\"", "must be an absolute path"},
      {"\"unix:/run/datacloud/demo.sock\"", "\"tcp://host:1\"", "write \"unix:/PATH\""},
      {"\"unix:/run/datacloud/demo.sock\"", "\"tls://host\"", "has no port"},
      {"\"unix:/run/datacloud/demo.sock\"", "[\"unix:/a\", \"tls://[::1:7\"]", "closing bracket"},
      {"\"unix:/run/datacloud/demo.sock\"", "\"unix:run/x\"", "write \"unix:/PATH\""},
      {"\"unix:/run/datacloud/demo.sock\"", "[]", "list of 1 to 16 addresses"},
      {"\"unix:/run/datacloud/demo.sock\"",
       "\"unix:/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
       "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"",
       "too long"},
      {"state =", "name = \"a b\"\nstate =", "cannot name a daemon"},
      {"state =", "name = \"\"\nstate =", "cannot name a daemon"},
      {"state =", "order = 1001\nstate =", "between 0 and 1000"},
      {"state =", "advertise = []\nstate =", "list of 1 to 8 addresses"},
      {"state =", "advertise = \"tls://0.0.0.0:1\"\nstate =", "name the host"},
      {"state =", "advertise = \"oslo:1\"\nstate =", "write \"unix:/PATH\""},
      {"\"unix:/run/datacloud/demo.sock\"", "[1]", "list of 1 to 16 addresses"},
      {"state =", "site = \"tsukubo\"\nstate =", "did you mean \"tsukuba\"?"},
      {"state =", "lease_ms = \"soon\"\nstate =", "is not a time"},
      {"state =", "sessions_max = 0\nstate =", "between 1 and 65536"},
      {"state =", "sessions_max = 99999999999\nstate =", "between 1 and 65536"},
      {"demo.service.key", "demo.data.key", "two different files"},
      {"\"directory\"", "\"ftp\"", "unknown store \"ftp\""},
      {"\"/srv/datacloud/tsukuba\"", "\"sites/tsukuba\"",
       "demo.toml:12: path is \"sites/tsukuba\""},
      {"\"tsukuba\"", "\"\"", "give every site a name"},
  };
  for (const auto& c : cases)
    EXPECT_THAT(error_of(replaced(kMinimal, c.from, c.to)), HasSubstr(c.expected));
}

const std::string kRadosSite = R"([[site]]
name = "chubu"
store = "rados"
conf = "/etc/ceph/chubu.conf"
pool = "datacloud"
)";

TEST(Config, ReadsRadosSites) {
  const auto config = parsed(kMinimal + kRadosSite + R"([[site]]
name = "kansai"
store = "rados"
conf = "/etc/ceph/kansai.conf"
pool = "cold"
user = "client.dc"
keyring = "/etc/ceph/kansai.keyring"
namespace = "demo"
)");
  ASSERT_EQ(config.sites.size(), 3u);
  EXPECT_EQ(config.sites[1].conf, "/etc/ceph/chubu.conf");
  EXPECT_EQ(config.sites[1].user, "client.datacloud");
  EXPECT_EQ(config.sites[1].pool, "datacloud");
  EXPECT_EQ(config.sites[1].nspace, "");
  EXPECT_EQ(config.sites[1].keyring, "");
  EXPECT_EQ(config.sites[2].user, "client.dc");
  EXPECT_EQ(config.sites[2].keyring, "/etc/ceph/kansai.keyring");
  EXPECT_EQ(config.sites[2].nspace, "demo");
}

TEST(Config, RadosSitesAreChecked) {
  const struct {
    const char *from, *to, *expected;
  } cases[] = {
      {"pool = \"datacloud\"\n", "", "[[site]] has no \"pool\""},
      {"conf = \"/etc/ceph/chubu.conf\"\n", "", "[[site]] has no \"conf\""},
      {"/etc/ceph/chubu.conf", "chubu.conf", "it must be an absolute path"},
      {"pool = \"datacloud\"", "pool = \"a/b\"", "cannot name a pool"},
      {"pool =", "user = \"datacloud\"\npool =", "write \"client.NAME\""},
      {"pool =", "namespace = \"a b\"\npool =", "cannot be a RADOS namespace"},
      {"pool =", "path = \"/srv\"\npool =", "unknown key \"path\""},
  };
  for (const auto& c : cases)
    EXPECT_THAT(error_of(kMinimal + replaced(kRadosSite, c.from, c.to)), HasSubstr(c.expected));
  EXPECT_THAT(error_of(kMinimal + kRadosSite + replaced(kRadosSite, "chubu", "kansai")),
              HasSubstr("two sites have the conf, pool and namespace"));
}

constexpr const char* kServed = "serve = \"tls://0.0.0.0:7501\"\n";
constexpr const char* kRemoteSite = R"([[site]]
name = "oslo"
store = "remote"
address = "tls://oslo.example.org:7501"
)";

TEST(Config, ReadsServedSites) {
  const auto config = parsed(kMinimal + std::string(kServed) +
                             "address = \"tls://[2001:db8::1]:1\"\n" + kRemoteSite);
  ASSERT_EQ(config.sites.size(), 2u);
  EXPECT_EQ(config.sites[0].serve, "tls://0.0.0.0:7501");
  EXPECT_EQ(config.sites[0].address, "tls://[2001:db8::1]:1");
  EXPECT_TRUE(config.sites[0].service_key.empty()) << "nothing is shown to a directory";
  EXPECT_EQ(config.sites[1].store, "remote");
  EXPECT_EQ(config.sites[1].address, "tls://oslo.example.org:7501");
  EXPECT_EQ(config.sites[1].service_key, "/etc/datacloud/demo.service.key");
  EXPECT_FALSE(config.sites[1].node.joined());
}

TEST(Config, ServedSitesAreChecked) {
  const auto served = [](const std::string& more) { return error_of(kMinimal + more); };
  EXPECT_THAT(served("serve = \"unix:/x\"\n"), HasSubstr("serve "));
  EXPECT_THAT(served("serve = \"tls://0.0.0.0\"\n"), HasSubstr("serve "));
  EXPECT_THAT(served("address = \"tls://a:1\"\n"), HasSubstr("set \"serve\""));
  EXPECT_THAT(served(kServed + std::string("address = \"tls://0.0.0.0:7501\"\n")),
              HasSubstr("none to connect to"));
  const auto remote = [&](const std::string& from, const std::string& to) {
    return served(replaced(kRemoteSite, from, to));
  };
  EXPECT_THAT(remote("address = \"tls://oslo.example.org:7501\"\n", ""),
              HasSubstr("[[site]] has no \"address\""));
  EXPECT_THAT(remote("oslo.example.org", "[::]"), HasSubstr("none to connect to"));
  EXPECT_THAT(remote("tls:", "http:"), HasSubstr("address "));
  EXPECT_THAT(remote("\"oslo\"", "\"-oslo\""), HasSubstr("cannot name a served site"));
  EXPECT_THAT(remote("address", "path = \"/srv\"\naddress"), HasSubstr("unknown key \"path\""));
  EXPECT_THAT(served(kRemoteSite + replaced(kRemoteSite, "\"oslo\"", "\"quito\"")),
              HasSubstr("two sites have the address"));
}

TEST(Config, ReadsHowServersThatAnOrganisationHasCertifiedAreKnown) {
  const std::string daemon =
      replaced(kMinimal, "[daemon]\n",
               "[daemon]\nauthorities = \"/pki/ca.pem\"\ncertificate = \"/pki/d.pem\"\nkey = "
               "\"/pki/d.key\"\nidentity = [\"dns:data.example\", \"https://data.example/d\"]\n");
  const std::string sites =
      std::string(kServed) +
      "certificate = \"/pki/s.pem\"\nkey = \"/pki/s.key\"\nwindow_bytes = \"1MiB\"\n" +
      kRemoteSite + "identity = \"dns:oslo.example\"\nwindow_bytes = 0\n";
  const auto config = parsed(daemon + sites);
  EXPECT_EQ(config.node.organisation, "/pki/ca.pem");
  EXPECT_EQ(config.daemon.shown.certificate, "/pki/d.pem");
  EXPECT_EQ(config.daemon.shown.key, "/pki/d.key");
  EXPECT_EQ(config.node.daemon_identity,
            (std::vector<std::string>{"dns:data.example", "https://data.example/d"}));
  EXPECT_EQ(config.sites[0].shown.certificate, "/pki/s.pem");
  EXPECT_EQ(config.sites[0].window_bytes, 1u << 20);
  EXPECT_EQ(config.sites[1].identity, std::vector<std::string>{"dns:oslo.example"});
  EXPECT_EQ(config.sites[1].window_bytes, 0u);
  EXPECT_EQ(config.sites[1].node.organisation, "/pki/ca.pem");
  EXPECT_THAT(error_of(replaced(daemon, "key = \"/pki/d.key\"\n", "")),
              HasSubstr("has no \"key\""));
  EXPECT_THAT(error_of(replaced(daemon, "dns:data.example", "data.example")),
              HasSubstr("dns:NAME"));
  EXPECT_THAT(error_of(replaced(daemon, "dns:data.example", "sha256:12")), HasSubstr("SHA-256"));
  EXPECT_THAT(error_of(daemon + replaced(sites, "1MiB", "4KiB")), HasSubstr("at least 1 MiB"));
  EXPECT_THAT(error_of(daemon + replaced(sites, "1MiB", "1GiB")), HasSubstr("between"));
  EXPECT_THAT(error_of(kMinimal + std::string("window_bytes = 0\n")), HasSubstr("set \"serve\""));
}

TEST(Config, SitesMustDiffer) {
  const std::string again = "[[site]]\nname = \"tsukuba\"\nstore = \"directory\"\npath = \"/x\"\n";
  EXPECT_EQ(error_of(kMinimal + again),
            "demo.toml:14: two sites are named \"tsukuba\"; every site needs a name of its own");
  const std::string same_place =
      "[[site]]\nname = \"b\"\nstore = \"directory\"\npath = \"/srv/./datacloud/tsukuba\"\n";
  EXPECT_THAT(error_of(kMinimal + same_place), HasSubstr("demo.toml:16: two sites have the path"));
  std::string many = kMinimal;
  for (int i = 0; i < 64; ++i)
    many += "[[site]]\nname = \"s" + std::to_string(i) + "\"\nstore = \"memory\"\n";
  EXPECT_THAT(error_of(many), HasSubstr("at most 64 sites"));
}

TEST(Config, MountValuesAreChecked) {
  EXPECT_THAT(error_of(kMinimal + "[mount]\nthreads = 0\n"),
              HasSubstr("demo.toml:14: threads is 0; it must be between 1 and 256"));
  EXPECT_THAT(error_of(kMinimal + "[mount]\nthreads = \"many\"\n"), HasSubstr("whole number"));
  EXPECT_THAT(error_of(kMinimal + "[mount]\nsync_close = 1\n"), HasSubstr("true or false"));
  EXPECT_THAT(error_of(kMinimal + "[mount]\ndirty_bytes_max = [1]\n"), HasSubstr("whole number"));
}

// What a third party's audit reads: the sites alone, and who this machine is to served ones.
TEST(Config, ASiteListTakesTheNodeForServedSites) {
  const std::string path = testing::TempDir() + "datacloud_site_list_test.toml";
  const auto listed = [&](const std::string& text) {
    std::ofstream(path) << text;
    auto sites = load_site_list(path);
    std::remove(path.c_str());
    return sites;
  };
  const std::string node =
      "[node]\ndaemon = [\"tls://head:7500\"]\nkey = \"/etc/a.key\"\n"
      "certificate = \"/etc/a.crt\"\nauthority = \"/etc/b.crt\"\n";
  const auto sites = listed(node + kRemoteSite);
  ASSERT_TRUE(sites) << sites.error().message();
  ASSERT_EQ(sites.value().size(), 1u);
  EXPECT_EQ(sites.value()[0].node.certificate, "/etc/a.crt");
  EXPECT_TRUE(listed(kRemoteSite)) << "which is away then, and says why";
  EXPECT_THAT(listed("[node]\nkey = \"/etc/a.key\"\n" + std::string(kRemoteSite)).error().text(),
              HasSubstr("daemon must be a list"));
}

TEST(Config, FilesThatCannotBeReadAreNamed) {
  const auto absent = load_config("/nonexistent/demo.toml");
  ASSERT_FALSE(absent);
  EXPECT_THAT(absent.error().text(), HasSubstr("/nonexistent/demo.toml"));
  EXPECT_FALSE(load_config("/"));
  const std::string path = testing::TempDir() + "datacloud_config_test.toml";
  std::ofstream(path) << kMinimal;
  const auto loaded = load_config(path);
  std::remove(path.c_str());
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded.value().cloud.name, "demo");
}

TEST(MountOptions, ApplyWithTheNamesOfTheConfiguration) {
  MountConfig mount;
  EXPECT_TRUE(apply_mount_option(mount, "cache_bytes_max=64MiB").value());
  EXPECT_EQ(mount.cache_bytes_max, 64u << 20);
  EXPECT_TRUE(apply_mount_option(mount, "flush_after_ms=10s").value());
  EXPECT_EQ(mount.flush_after_ms, 10000u);
  EXPECT_TRUE(apply_mount_option(mount, "threads=2").value());
  EXPECT_EQ(mount.threads, 2u);
  EXPECT_TRUE(apply_mount_option(mount, "sync_close").value());
  EXPECT_TRUE(mount.sync_close);
  EXPECT_TRUE(apply_mount_option(mount, "sync_close=false").value());
  EXPECT_FALSE(mount.sync_close);
}

TEST(MountOptions, OthersAreLeftToOthers) {
  MountConfig mount;
  for (const char* option : {"allow_other", "site=tsukuba", "", "=", "THREADS=1", "threadsx=1"})
    EXPECT_FALSE(apply_mount_option(mount, option).value()) << option;
}

TEST(MountOptions, MistakesAreExplained) {
  MountConfig mount;
  auto error = [&](const std::string& option) {
    const auto applied = apply_mount_option(mount, option);
    EXPECT_FALSE(applied);
    return applied ? "" : applied.error().text();
  };
  EXPECT_EQ(error("threads"), "-o threads needs a value: -o threads=VALUE");
  EXPECT_EQ(error("threads=1000"), "threads is 1000; it must be between 1 and 256");
  EXPECT_THAT(error("threads=2x"), HasSubstr("whole number"));
  EXPECT_THAT(error("threads="), HasSubstr("whole number"));
  EXPECT_THAT(error("sync_close=maybe"), HasSubstr("true or false"));
  EXPECT_EQ(error("dirty_bytes_max=4096"),
            "dirty_bytes_max is 4096 bytes; it must be between 1 MiB and 1048576 MiB");
  EXPECT_THAT(error("flush_after_ms=1w"), HasSubstr("is not a time"));
}

TEST(Units, SizesAndTimes) {
  EXPECT_EQ(parse_bytes("4096").value(), 4096u);
  EXPECT_EQ(parse_bytes("64MiB").value(), 64u << 20);
  EXPECT_EQ(parse_bytes("16M").value(), 16u << 20);
  EXPECT_EQ(parse_bytes("1 GiB").value(), 1u << 30);
  EXPECT_EQ(parse_bytes("1TiB").value(), uint64_t{1} << 40);
  EXPECT_EQ(parse_bytes("0").value(), 0u);
  EXPECT_EQ(parse_milliseconds("10s").value(), 10000u);
  EXPECT_EQ(parse_milliseconds("500ms").value(), 500u);
  EXPECT_EQ(parse_milliseconds("2min").value(), 120000u);
  EXPECT_EQ(parse_milliseconds("250").value(), 250u);
  for (const char* bad : {"", "x", "-1", "1.5M", "10MB", "M", "1M ", "18446744073709551616",
                          "99999999999999TiB", "+1", " 1"})
    EXPECT_FALSE(parse_bytes(bad)) << bad;
  for (const char* bad : {"", "s", "-1s", "10 sec", "1.5s", "18446744073709551615s"})
    EXPECT_FALSE(parse_milliseconds(bad)) << bad;
}

}  // namespace
}  // namespace datacloud
