// What mounts are told of the cloud's daemons, and mounts that know more of the journal than is
// here.
#include "common/site/leader_record.h"
#include "daemon/metadata/journal_records.h"
#include "daemon/metadata/journal_start.h"
#include "daemon/records/cloud_features.h"
#include "tests/daemon/metadata/memory_journal.h"
#include "tests/daemon/service/nodes_rig.h"

namespace datacloud {
namespace {

using ::testing::HasSubstr;

class PlacesTest : public ServiceTest {
 protected:
  void SetUp() override {
    config_.name = "here";
    config_.listen = {"unix:/run/here", "tls://here:1"};
    ServiceTest::SetUp();
    journal_ = std::make_shared<journal::MemoryJournal>(journal_id(cloud_.uuid()).value());
    Transaction txn = store_->begin();
    pb::JournalSet set;
    const auto id = journal_id(cloud_.uuid()).value();
    set.set_journal(std::string(as_text(ByteView(id.data(), id.size()))));
    for (uint32_t site = 1; site <= 3; ++site) set.add_sites(site);
    set.set_number(1);
    set.set_losses(1);
    set.set_segment_bytes(16u << 20);
    ASSERT_TRUE(enable_feature(txn, Feature::journal, store_->sequence() + 1));
    txn.put(key::meta(kJournalRecord), set);
    txn.put(key::meta(kPositionRecord), encode_position({}));
    ASSERT_TRUE(store_->commit(std::move(txn)));
    restart();
  }
  void TearDown() override {
    ServiceTest::TearDown();
    journal_->changed = {};
  }
  void adapt(MetadataService::Dependencies& deps) override {
    deps.places = places_ = std::make_shared<DaemonPlaces>();
    deps.leader_key = SecretKey(Bytes(32, 9));
    deps.self = {.name = "here", .addresses = {"unix:/run/here", "tls://here:1"}};
    if (!store_->journaled()) return;
    journal_->changed = [loop = loop_, journal = journal_.get()] {
      loop->post([journal] { journal->deliver(); });
    };
    auto started = start_journal(*store_, {.loop = loop_,
                                           .log = journal_->claim(),
                                           .journal = journal_->id(),
                                           .metadata_key = SecretKey(Bytes(32, 7)),
                                           .fatal = deps.fatal});
    ASSERT_TRUE(started) << started.error().message();
    deps.journal = std::move(started.value().committer);
  }
  static journal::LogPosition position_of(const std::string& told) {
    return decode_position(told).value();
  }
  // The answer to the hello of a mount that was told this.
  pb::Reply hello(const std::string& position) {
    auto connection = std::make_shared<FakeConnection>(77);
    pb::Request request;
    request.mutable_hello()->set_protocol(kProtocolNewest);
    request.mutable_hello()->set_protocol_min(kProtocolOldest);
    request.mutable_hello()->mutable_session()->set_secret("a secret of a mount");
    request.mutable_hello()->set_journal_position(position);
    service_->on_request(connection, request);
    EXPECT_TRUE(until([&] { return !connection->replies.empty(); }));
    return connection->replies.empty() ? pb::Reply() : connection->replies.front();
  }
  pb::JournalStatus journal_status() {
    Client client = tool();
    pb::AdminRequest admin;
    admin.mutable_journal();
    pb::Request request;
    request.set_admin(admin.SerializeAsString());
    pb::AdminReply answer;
    EXPECT_TRUE(answer.ParseFromString(call(client, request).admin()));
    return answer.journal().status();
  }

  std::shared_ptr<journal::MemoryJournal> journal_;
  std::shared_ptr<DaemonPlaces> places_;
};

TEST_F(PlacesTest, ADaemonAloneTellsOfItself) {
  Client mount = this->mount(10);
  ASSERT_EQ(mount.hello.daemons_size(), 1);
  EXPECT_EQ(mount.hello.daemons(0).name(), "here");
  EXPECT_TRUE(mount.hello.daemons(0).leads());
  EXPECT_EQ(mount.hello.daemons(0).addresses_size(), 2);
  EXPECT_EQ(mount.hello.leader_key(), std::string(32, 9));
  EXPECT_GT(position_of(mount.hello.journal_position()).sequence, 0u);
}

TEST_F(PlacesTest, KeepalivesTellOfChanges) {
  Client mount = this->mount(10);
  places_->set({{.name = "here", .addresses = {"unix:/run/here", "tls://here:1"}, .leads = true},
                {.name = "there", .addresses = {"tls://there:1"}, .order = 1}});
  pb::Request keepalive;
  keepalive.mutable_keepalive();
  const auto reply = call(mount, keepalive).keepalive();
  ASSERT_EQ(reply.daemons_size(), 2);
  EXPECT_EQ(reply.daemons(1).name(), "there");
  EXPECT_FALSE(reply.daemons(1).leads());
  EXPECT_EQ(position_of(reply.journal_position()).epoch,
            position_of(mount.hello.journal_position()).epoch);
}

TEST_F(PlacesTest, TheSitesHaveTheRecord) {
  const SecretKey key(Bytes(32, 9));
  const auto newest = [&](size_t site) {
    std::string found;
    auto store = make_memory_store(memory_[site]);
    pb::LeaderRecord best;
    for (int slot = 0; slot < kLeaderRecordSlots; ++slot) {
      auto reply = wait_for<ReadReply>([&](auto done) {
        store->read(leader_record_name(slot), {{0, kLeaderRecordBytesMax}}, false, {}, done);
      });
      if (!reply) continue;
      auto record = open_leader_record(key, reply.value().ranges[0]);
      if (record && is_newer(record.value(), best)) best = record.value();
    }
    for (const auto& place : best.daemons()) found += place.name() + " ";
    return found;
  };
  for (size_t site = 0; site < kSites; ++site)
    EXPECT_TRUE(until([&] { return newest(site) == "here "; })) << newest(site);
  places_->set({{.name = "here", .addresses = {"tls://here:1"}, .leads = true},
                {.name = "there", .addresses = {"tls://there:1"}, .order = 1}});
  for (size_t site = 0; site < kSites; ++site)
    EXPECT_TRUE(until([&] { return newest(site) == "here there "; })) << newest(site);
}

TEST_F(PlacesTest, AMountIsServedByWhoeverHasWhatItWasTold) {
  Client mount = this->mount(10);
  const std::string first = mount.hello.journal_position();
  EXPECT_EQ(hello(first).error(), 0) << "of this leadership";
  call(mount, create_request("one"));
  restart();
  const std::string second = hello(first).hello().journal_position();
  EXPECT_TRUE(position_of(second).epoch > position_of(first).epoch);
  EXPECT_EQ(hello(first).error(), 0) << "of the one before: looked up in the journal";
  EXPECT_EQ(hello(second).error(), 0);
  journal_->trim(position_of(second).sequence);
  EXPECT_EQ(hello(first).error(), 0) << "too old to be looked up";
  EXPECT_EQ(journal_status().rollbacks_refused(), 0u);
}

TEST_F(PlacesTest, AMountThatKnowsMoreIsRefusedLoudly) {
  Client mount = this->mount(10);
  const auto seen = position_of(mount.hello.journal_position());
  restart();
  const auto refused = [&](journal::LogPosition position) {
    const pb::Reply reply = hello(encode_position(position));
    EXPECT_THAT(reply.error_text(), HasSubstr("has gone back"));
    return reply.error() == -static_cast<int>(Errc::stale);
  };
  auto later = seen;
  later.epoch.number += 5;
  EXPECT_TRUE(refused(later)) << "a leader that this one knows nothing of";
  auto further = seen;
  further.sequence += 1000;
  EXPECT_TRUE(refused(further)) << "an entry that was not adopted";
  auto other = seen;
  other.hash[0] ^= 1;
  EXPECT_TRUE(refused(other)) << "another entry in its place";
  auto ours = position_of(hello("").hello().journal_position());
  ours.sequence += 1000;
  EXPECT_TRUE(refused(ours)) << "of this leadership, and not made yet";
  EXPECT_EQ(journal_status().rollbacks_refused(), 4u);
  Client client = tool();
  pb::Request request;
  request.mutable_status();
  const auto status = call(client, request).status();
  EXPECT_EQ(status.health(), "failing");
  EXPECT_THAT(status.problems(), testing::Contains(HasSubstr("put back from a backup")));
  EXPECT_EQ(hello("nonsense").error(), -static_cast<int>(Errc::invalid));
}

class GoingOnTest : public NodesTest {};

// Commands on the machine of a daemon that stands by.
TEST_F(GoingOnTest, WhoHasTheServiceKeyIsAnAdministrator) {
  Machine machine;
  NodeRoles roles = NodeRole::daemon;
  roles.add(NodeRole::mount);
  roles.add(NodeRole::admin);
  machine.certificate = authority_
                            ->issue(machine.key, {authority_->cloud_uuid(), "daemon", roles},
                                    wall_now_ns(), 3600 * kNsPerSecond)
                            .der;
  EXPECT_NE(hello(machine).error(), 0) << "but mounts nothing";
  ASSERT_EQ(hello(machine, pb::CLIENT_TOOL).error(), 0);
  pb::AdminRequest admin;
  admin.mutable_node();
  pb::Request request;
  request.set_admin(admin.SerializeAsString());
  EXPECT_EQ(call(machine.client, request).error(), 0);
  request.Clear();
  request.mutable_status();
  EXPECT_EQ(call(machine.client, request).error(), 0);
}

}  // namespace
}  // namespace datacloud
