// What a machine knows of the daemons: the file that it keeps, and the record at the sites.
#include "common/site/daemon_finder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <thread>

#include "tests/common/site/leader_sites.h"

namespace datacloud {
namespace {

using testing::ElementsAre;

class DaemonFinderTest : public testing::Test {
 protected:
  DaemonFinderTest() {
    config_.file = std::filesystem::path(directory_.path()) / "demo.toml";
    config_.node.daemon = {"tls://configured:1"};
    config_.sites = sites_.configs;
  }
  pb::HelloReply hello(const std::vector<std::string>& addresses, uint64_t epoch = 3) {
    pb::HelloReply reply;
    reply.mutable_cloud()->set_uuid(kLeaderCloud);
    reply.set_leader_key(std::string(as_text(sites_.key.view())));
    std::string position(56, '\0');
    position[0] = static_cast<char>(epoch);
    reply.set_journal_position(position);
    for (const auto& address : addresses) {
      auto* place = reply.add_daemons();
      place->set_name("daemon " + address);
      place->set_leads(reply.daemons_size() == 1);
      place->add_addresses(address);
    }
    return reply;
  }
  static bool eventually(const std::function<bool()>& condition) {
    const auto end = monotonic_now() + seconds(20);
    while (!condition()) {
      if (monotonic_now() > end) return false;
      std::this_thread::sleep_for(milliseconds(2));
    }
    return true;
  }
  bool file_names(const std::string& address) {
    const auto file = read_daemons_file(daemons_file_of(config_.file));
    return file && !file.value().daemons.empty() &&
           file.value().daemons[0].addresses == std::vector{address};
  }
  std::shared_ptr<DaemonFinder> finder(DaemonFinder::Keep keep = DaemonFinder::Keep::yes) {
    return DaemonFinder::make(config_, keep,
                              {.pause = milliseconds(20), .grace = milliseconds(50)});
  }

  LeaderSites sites_{2};
  const TemporaryDirectory directory_;
  Config config_;
};

TEST_F(DaemonFinderTest, WhatIsToldIsKeptForTheNextStart) {
  auto one = finder();
  EXPECT_THAT(one->all(), ElementsAre("tls://configured:1"));
  one->told(hello({"tls://a:1", "tls://b:1"}), false);
  ASSERT_TRUE(eventually([&] { return file_names("tls://a:1"); }));
  EXPECT_THAT(finder()->all(), ElementsAre("tls://a:1", "tls://b:1", "tls://configured:1"));
  pb::KeepaliveReply keepalive;
  *keepalive.mutable_daemons() = hello({"tls://b:1", "tls://a:1"}).daemons();
  one->told(keepalive, false);
  ASSERT_TRUE(eventually([&] { return file_names("tls://b:1"); }));
  // A tool reads it, and writes nothing.
  auto tool = finder(DaemonFinder::Keep::no);
  EXPECT_THAT(tool->all(), ElementsAre("tls://b:1", "tls://a:1", "tls://configured:1"));
  tool->told(hello({"tls://c:1"}), false);
  one->told(hello({"tls://d:1"}), false);
  ASSERT_TRUE(eventually([&] { return file_names("tls://d:1"); }));
}

TEST_F(DaemonFinderTest, WithoutItsFileNothingIsMissing) {
  std::ofstream(daemons_file_of(config_.file)) << "damaged";
  EXPECT_THAT(finder()->all(), ElementsAre("tls://configured:1"));
  config_.file = "/nonexistent/demo.toml";
  auto nowhere = finder();
  nowhere->told(hello({"tls://a:1"}), false);
  EXPECT_THAT(nowhere->all(), ElementsAre("tls://a:1", "tls://configured:1"));
  nowhere->unreachable();
}

TEST_F(DaemonFinderTest, TheSitesAreAskedWhenNobodyLeads) {
  finder()->unreachable();  // no key is known: nothing happens
  auto one = finder();
  one->told(hello({"tls://dead:1"}, 3), false);
  sites_.put(0, 0, leader_record(2, 9, "tls://older:1"));
  one->unreachable();
  sites_.put(1, 1, leader_record(7, 1, "tls://newer:1"));
  EXPECT_TRUE(eventually([&] {
    one->unreachable();
    return one->all()[0] == "tls://newer:1";
  }));
  EXPECT_EQ(one->all().size(), 2u);
  EXPECT_TRUE(eventually([&] { return file_names("tls://newer:1"); })) << "and kept";
}

// The record at the sites has addresses for other machines alone.
TEST_F(DaemonFinderTest, SocketsOfThisMachineStayKnown) {
  auto one = finder();
  auto reply = hello({"tls://dead:1", "tls://old:1"}, 3);
  const auto record = leader_record(7, 1, "tls://newer:1");
  reply.mutable_daemons(1)->set_name(record.daemons(0).name());
  reply.mutable_daemons(1)->add_addresses("unix:/run/other.sock");
  one->told(reply, true);
  sites_.put(0, 0, record);
  EXPECT_TRUE(eventually([&] {
    one->unreachable();
    return one->all()[0] == "tls://newer:1";
  }));
  EXPECT_THAT(one->all(),
              ElementsAre("tls://newer:1", "unix:/run/other.sock", "tls://configured:1"));
}

// What a leader has told of a later epoch is newer than any record of an earlier one.
TEST_F(DaemonFinderTest, AnOlderRecordDoesNotCount) {
  auto one = finder();
  one->told(hello({"tls://dead:1"}, 8), false);
  sites_.put(0, 0, leader_record(7, 1, "tls://older:1"));
  one->unreachable();
  sites_.put(1, 0, leader_record(8, 1, "tls://same:1"));
  EXPECT_TRUE(eventually([&] {
    one->unreachable();
    EXPECT_NE(one->all()[0], "tls://older:1");
    return one->all()[0] == "tls://same:1";
  }));
}

}  // namespace
}  // namespace datacloud
