// A daemon that leads, with standbys: who is told what, what waits while its lease has run out, and
// the hand-over.
#include "daemon/metadata/journal_records.h"
#include "daemon/metadata/journal_start.h"
#include "daemon/metadata/record_keys.h"
#include "tests/daemon/metadata/memory_journal.h"
#include "tests/daemon/service/service_rig.h"

namespace datacloud {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class LeaderServiceTest : public ServiceTest {
 protected:
  void SetUp() override {
    ServiceTest::SetUp();
    journal_ = std::make_shared<journal::MemoryJournal>(journal_id(cloud_.uuid()).value());
    Client t = tool();
    pb::AdminRequest enable;
    enable.mutable_journal()->set_action(pb::JOURNAL_ENABLE);
    ASSERT_EQ(admin(t, enable).error(), 0);
    restart();
  }
  void TearDown() override {
    confirm();
    ServiceTest::TearDown();
    journal_->changed = {};
  }
  void adapt(MetadataService::Dependencies& deps) override {
    deps.format_journal = [](const pb::JournalSet&) -> result<void> { return success(); };
    deps.start_anew = [] {};
    if (!store_->journaled()) return;
    journal_->changed = [loop = loop_, journal = journal_.get()] {
      loop->post([journal] { journal->deliver(); });
    };
    auto started = start_journal(*store_, {.loop = loop_,
                                           .log = journal_->claim(),
                                           .journal = journal_->id(),
                                           .metadata_key = key_,
                                           .fatal = deps.fatal});
    ASSERT_TRUE(started) << started.error().message();
    deps.journal = std::move(started.value().committer);
    boot_ = BootTime(std::chrono::hours(1));
    pb::Leadership record;
    ASSERT_TRUE(store_->begin().get(key::meta(kLeadershipRecord), record));
    lease_ = std::make_shared<LeaderLease>(1, 1, milliseconds(record.lease_ms()),
                                           [this] { return boot_; });
    confirm();
    deps.lease = lease_;
    places_ = std::make_shared<DaemonPlaces>();
    deps.places = places_;
    deps.self = {.name = "home", .addresses = {"tls://home:7000"}, .order = 1};
    deps.stand_down = [this] { ++stood_down_; };
  }
  void confirm() {
    if (lease_) lease_->confirm(0, boot_);
  }
  void lose_lease() { boot_ += seconds(2); }

  pb::Reply admin(Client& client, const pb::AdminRequest& wanted) {
    return await(client, send_admin(client, wanted));
  }
  uint64_t send_admin(Client& client, const pb::AdminRequest& wanted) {
    pb::Request request;
    request.set_admin(wanted.SerializeAsString());
    return send(client, request);
  }
  static pb::LeaderReply answer_of(const pb::Reply& reply) {
    pb::AdminReply admin;
    EXPECT_TRUE(admin.ParseFromString(reply.admin()));
    return admin.leader();
  }
  pb::LeaderReply show() {
    Client t = tool();
    pb::AdminRequest request;
    request.mutable_leader()->set_action(pb::LEADER_SHOW);
    return answer_of(admin(t, request));
  }
  pb::AdminRequest report_request(const std::string& name, uint32_t order,
                                  const journal::LogPosition& position) {
    pb::AdminRequest request;
    auto* leader = request.mutable_leader();
    leader->set_action(pb::LEADER_REPORT);
    leader->set_name(name);
    leader->set_order(order);
    leader->add_addresses("tls://" + name + ":7000");
    leader->set_position(encode_position(position));
    return request;
  }
  journal::LogPosition end() const { return journal_->entries().back().position(); }
  pb::LeaderReply report(Client& standby, const std::string& name, uint32_t order) {
    return answer_of(admin(standby, report_request(name, order, end())));
  }
  pb::Reply named(pb::LeaderAction action, const std::string& name) {
    Client t = tool();
    pb::AdminRequest request;
    request.mutable_leader()->set_action(action);
    request.mutable_leader()->set_name(name);
    return admin(t, request);
  }
  pb::LeaderNote last_note() const {
    pb::LeaderNote note;
    const auto& entry = journal_->entries().back();
    EXPECT_EQ(entry.header.kind, journal::EntryKind::note);
    const auto content = journal::EntryOpener(key_).open(entry);
    EXPECT_TRUE(content);
    EXPECT_TRUE(
        note.ParseFromArray(content.value().data(), static_cast<int>(content.value().size())));
    return note;
  }

  const SecretKey key_ = SecretKey(Bytes(32, 7));
  std::shared_ptr<journal::MemoryJournal> journal_;
  BootTime boot_;
  std::shared_ptr<LeaderLease> lease_;
  std::shared_ptr<DaemonPlaces> places_;
  int stood_down_ = 0;
};

TEST_F(LeaderServiceTest, AloneItKeepsNoLease) {
  const auto shown = show();
  ASSERT_EQ(shown.daemons_size(), 1);
  EXPECT_EQ(shown.daemons(0).name(), "home");
  EXPECT_TRUE(shown.daemons(0).leads());
  EXPECT_EQ(shown.plan(), "");
  EXPECT_EQ(shown.lease_ms(), 0u);
  lose_lease();
  Client m = mount(10);
  EXPECT_EQ(call(m, lookup_request("none")).error(), ENOENT);
}

TEST_F(LeaderServiceTest, AStandbyIsNotedAndTheLeaseHoldsFromThenOn) {
  Client standby = tool();
  const auto answer = report(standby, "near", 2);
  EXPECT_FALSE(answer.claim_now());
  EXPECT_EQ(answer.lease_ms(), 1500u);
  EXPECT_EQ(answer.plan(), "A");
  EXPECT_EQ(lease_->length(), milliseconds(1500));
  ASSERT_EQ(places_->all().size(), 2u);
  EXPECT_EQ(places_->all()[0], (KnownDaemon{"home", {"tls://home:7000"}, 1, true}));
  EXPECT_EQ(places_->all()[1], (KnownDaemon{"near", {"tls://near:7000"}, 2, false}));
  restart();
  EXPECT_EQ(lease_->length(), milliseconds(1500)) << "the record says so";
  EXPECT_EQ(show().daemons_size(), 2);
  EXPECT_EQ(show().plan(), "C") << "it has not been heard of since";
}

TEST_F(LeaderServiceTest, AReportWaitsAMomentForNews) {
  Client standby = tool();
  (void)report(standby, "near", 2);
  const uint64_t waits = send_admin(standby, report_request("near", 2, end()));
  EXPECT_FALSE(answered_now(standby, waits));
  loop_->advance(milliseconds(390));
  EXPECT_FALSE(answered_now(standby, waits));
  loop_->advance(milliseconds(20));
  EXPECT_TRUE(answered_now(standby, waits));
}

TEST_F(LeaderServiceTest, WhileTheLeaseHasRunOutMountsAreAnsweredNothing) {
  Client standby = tool(), m = mount(10);
  (void)report(standby, "near", 2);
  lose_lease();
  const uint64_t one = send(m, lookup_request("none"));
  const uint64_t two = send(m, create_request("file"));
  run_for(milliseconds(500));
  EXPECT_FALSE(answered(m, one));
  EXPECT_FALSE(answered(m, two));
  EXPECT_FALSE(show().lease_holds()) << "tools are answered";
  confirm();
  EXPECT_EQ(await(m, one).error(), ENOENT) << "in their order";
  EXPECT_EQ(await(m, two).error(), 0);
}

TEST_F(LeaderServiceTest, WhatWasBegunBeforeIsNotSentEither) {
  Client standby = tool(), m = mount(10);
  (void)report(standby, "near", 2);
  confirm();
  journal_->hold(true);
  pb::Request sync;
  sync.mutable_sync();
  const uint64_t made = send(m, create_request("file"));
  EXPECT_TRUE(answered_now(m, made));
  const uint64_t waits = send(m, sync);
  EXPECT_FALSE(answered_now(m, waits));
  lose_lease();
  journal_->release();
  journal_->hold(false);
  run_for(milliseconds(300));
  EXPECT_FALSE(answered(m, waits)) << "it is durable, and nobody is told";
  confirm();
  EXPECT_EQ(await(m, waits).error(), 0);
}

TEST_F(LeaderServiceTest, RecallsWaitTooAndNoReplyIsOvertaken) {
  Client standby = tool(), a = mount(10), b = mount(11);
  const InodeId ino = create(a, "file");
  (void)report(standby, "near", 2);
  confirm();
  ASSERT_EQ(call(a, lease_request(ino, pb::LEASE_WRITE)).error(), 0);
  lose_lease();
  const uint64_t wants = send(b, lease_request(ino, pb::LEASE_WRITE));
  run_for(milliseconds(300));
  EXPECT_TRUE(a.connection->recalls.empty());
  confirm();
  EXPECT_EQ(recall(a).ino(), ino);
  EXPECT_EQ(await(b, wants).error(), 0);
}

TEST_F(LeaderServiceTest, NewMountsAndThoseThatWaitLongAreSentAway) {
  Client standby = tool(), m = mount(10);
  (void)report(standby, "near", 2);
  lose_lease();
  auto stranger = std::make_shared<FakeConnection>(12);
  pb::Request hello;
  hello.mutable_hello()->set_protocol(kProtocolOldest);
  hello.mutable_hello()->set_protocol_min(kProtocolOldest);
  service_->on_request(stranger, hello);
  EXPECT_TRUE(stranger->closed);
  EXPECT_TRUE(stranger->replies.empty());
  (void)send(m, lookup_request("none"));
  run_for(milliseconds(500));
  EXPECT_FALSE(m.connection->closed);
  run_for(seconds(1));
  EXPECT_TRUE(m.connection->closed);
  disconnect(m);
  confirm();
  connect(m);
  EXPECT_EQ(call(m, lookup_request("none")).error(), ENOENT) << "its session is there";
}

TEST_F(LeaderServiceTest, NoSessionEndsForWantOfAnswers) {
  config_.lease_ms = 5000;
  restart();
  Client standby = tool(), m = mount(10);
  (void)report(standby, "near", 2);
  lose_lease();
  run_for(seconds(30));
  confirm();
  disconnect(m);
  const SessionId before = m.session;
  connect(m);
  EXPECT_EQ(m.session, before);
}

TEST_F(LeaderServiceTest, AMoveReleasesTheJournalAndTellsTheStandby) {
  Client standby = tool(), m = mount(10);
  (void)report(standby, "near", 2);
  confirm();
  EXPECT_EQ(call(m, create_request("file")).error(), 0);
  (void)report(standby, "near", 2);
  const uint64_t waits = send_admin(standby, report_request("near", 2, end()));
  EXPECT_FALSE(answered_now(standby, waits));
  const auto moved = named(pb::LEADER_MOVE, "near");
  EXPECT_EQ(moved.error(), 0) << moved.error_text();
  EXPECT_TRUE(answer_of(await(standby, waits)).claim_now());
  EXPECT_TRUE(last_note().release());
  EXPECT_EQ(last_note().successor(), "near");
  const uint64_t late = send(m, lookup_request("file"));
  EXPECT_FALSE(answered_now(m, late)) << "it answers mounts nothing more";
  EXPECT_TRUE(until([&] { return stood_down_ > 0; }));
}

TEST_F(LeaderServiceTest, AMoveThatNobodyTakesEndsTheLeadershipAllTheSame) {
  Client standby = tool();
  (void)report(standby, "near", 2);
  confirm();
  EXPECT_EQ(named(pb::LEADER_MOVE, "near").error(), 0);
  run_for(seconds(4));
  EXPECT_EQ(stood_down_, 0);
  EXPECT_NE(named(pb::LEADER_MOVE, "near").error(), 0) << "one at a time";
  run_for(seconds(2));
  EXPECT_GT(stood_down_, 0);
}

TEST_F(LeaderServiceTest, AMoveIsRefusedWhereTheStandbyCouldNotLead) {
  EXPECT_THAT(named(pb::LEADER_MOVE, "near").error_text(), HasSubstr("no daemon \"near\""));
  EXPECT_THAT(named(pb::LEADER_MOVE, "home").error_text(), HasSubstr("leads already"));
  Client standby = tool();
  (void)report(standby, "near", 2);
  run_for(seconds(4));
  confirm();
  EXPECT_THAT(named(pb::LEADER_MOVE, "near").error_text(), HasSubstr("not connected"));
  journal_->hold(false);
  Client m = mount(10);
  for (int i = 0; i < 1100; ++i) {
    confirm();
    ASSERT_EQ(call(m, create_request("f" + std::to_string(i))).error(), 0);
  }
  (void)answer_of(admin(standby, report_request("near", 2, {})));
  EXPECT_THAT(named(pb::LEADER_MOVE, "near").error_text(), HasSubstr("entries behind"));
  EXPECT_EQ(show().plan(), "C");
}

TEST_F(LeaderServiceTest, ItReturnsToThePreferredDaemonAfterAWhile) {
  Client standby = tool();
  for (int i = 0; i < 20; ++i) {
    (void)report(standby, "first", 0);
    run_for(seconds(2));
  }
  EXPECT_EQ(show().plan(), "B");
  EXPECT_EQ(stood_down_, 0) << "not before it has stayed for a minute";
  bool asked = false;
  for (int i = 0; i < 60 && !asked; ++i) {
    asked = report(standby, "first", 0).claim_now();
    if (!asked) run_for(seconds(1));
  }
  EXPECT_TRUE(asked);
  EXPECT_EQ(last_note().successor(), "first");
}

TEST_F(LeaderServiceTest, ItShowsThatItLivesWhileAStandbyIsSilent) {
  Client standby = tool();
  (void)report(standby, "near", 2);
  for (int i = 0; i < 10; ++i) {
    (void)report(standby, "near", 2);
    run_for(milliseconds(300));
  }
  const size_t entries = journal_->entries().size();
  run_for(seconds(5));
  const size_t signs = journal_->entries().size() - entries;
  EXPECT_GE(signs, 8u);
  EXPECT_LE(signs, 17u);
  EXPECT_FALSE(last_note().release());
  run_for(std::chrono::minutes(11));
  const size_t after = journal_->entries().size();
  run_for(seconds(10));
  EXPECT_EQ(journal_->entries().size(), after) << "not for ever";
}

TEST_F(LeaderServiceTest, ADaemonThatIsGoneIsForgotten) {
  Client standby = tool();
  (void)report(standby, "near", 2);
  EXPECT_THAT(named(pb::LEADER_FORGET, "near").error_text(), HasSubstr("stop it first"));
  EXPECT_THAT(named(pb::LEADER_FORGET, "home").error_text(), HasSubstr("leads"));
  EXPECT_THAT(named(pb::LEADER_FORGET, "far").error_text(), HasSubstr("no daemon"));
  run_for(seconds(4));
  EXPECT_EQ(named(pb::LEADER_FORGET, "near").error(), 0);
  EXPECT_EQ(show().daemons_size(), 1);
  EXPECT_EQ(lease_->length(), Duration(0)) << "it is alone, and keeps no lease";
}

TEST_F(LeaderServiceTest, ADaemonOfAnotherMachineReportsAndMountsNothing) {
  PeerCredentials peer;
  peer.address = "10.0.0.7:1";
  peer.node = "daemon";
  peer.roles = NodeRole::daemon;
  const auto hello = [&](pb::ClientKind kind) {
    Client client;
    client.connection = std::make_shared<FakeConnection>(peer);
    pb::Request request;
    request.mutable_hello()->set_protocol(kProtocolOldest);
    request.mutable_hello()->set_protocol_min(kProtocolOldest);
    request.mutable_hello()->set_kind(kind);
    request.mutable_hello()->mutable_session()->set_secret("a secret of 16 bytes or more");
    service_->on_request(client.connection, request);
    EXPECT_TRUE(until([&] { return !client.connection->replies.empty(); }));
    client.hello = client.connection->replies.front().hello();
    return client;
  };
  EXPECT_EQ(hello(pb::CLIENT_MOUNT).connection->replies.front().error(), EACCES);
  Client standby = hello(pb::CLIENT_TOOL);
  ASSERT_EQ(standby.connection->replies.front().error(), 0);
  EXPECT_EQ(report(standby, "near", 2).daemons_size(), 2);
}

TEST_F(LeaderServiceTest, ADamagedRecordIsBegunAnew) {
  auto txn = store_->begin();
  pb::Leadership damaged;
  damaged.set_leader("nobody");
  damaged.add_daemons()->set_name("x");
  damaged.set_lease_ms(2000);
  txn.put(key::meta(kLeadershipRecord), damaged);
  ASSERT_TRUE(store_->commit(std::move(txn)));
  restart();
  ASSERT_EQ(show().daemons_size(), 1);
  EXPECT_EQ(show().lease_ms(), 1500u) << "a lease goes on";
}

}  // namespace
}  // namespace datacloud
