// Sessions, idempotence, id grants, commits, restarts and what is collected after them.
#include <fmt/format.h>

#include "common/proto/admin.pb.h"
#include "common/rpc/protocol_versions.h"
#include "daemon/metadata/record_keys.h"
#include "tests/daemon/service/service_rig.h"

namespace datacloud {
namespace {

int wire(Errc e) { return -static_cast<int>(e); }

class SessionsTest : public ServiceTest {};

TEST_F(SessionsTest, HelloGivesWhatAMountNeeds) {
  const Client a = mount(11);
  EXPECT_NE(a.session, 0u);
  EXPECT_EQ(a.hello.start(), 1u);
  EXPECT_EQ(a.hello.lease_ms(), 600'000u);
  EXPECT_EQ(a.hello.cloud().name(), "test");
  EXPECT_EQ(a.hello.name_key().size(), 16u);
  EXPECT_FALSE(a.hello.resumed());
  const Client t = tool();
  EXPECT_EQ(t.hello.name_key(), "");
}

TEST_F(SessionsTest, OtherProtocolsAndEarlyRequestsAreRefused) {
  auto connection = std::make_shared<FakeConnection>(1);
  pb::Request request;
  request.mutable_hello()->set_protocol(99);
  service_->on_request(connection, request);
  ASSERT_EQ(connection->replies.size(), 1u);
  EXPECT_EQ(connection->replies[0].error(), wire(Errc::unsupported));
  EXPECT_THAT(connection->replies[0].error_text(), testing::HasSubstr("protocol 99"));
  service_->on_request(connection, lookup_request("x"));
  ASSERT_EQ(connection->replies.size(), 2u);
  EXPECT_EQ(connection->replies[1].error(), wire(Errc::session_lost));
}

TEST_F(SessionsTest, ProtocolsAreAgreedOn) {
  const auto hello = [&](uint32_t oldest, uint32_t newest) {
    auto connection = std::make_shared<FakeConnection>(21);
    pb::Request request;
    request.mutable_hello()->set_kind(pb::CLIENT_TOOL);
    request.mutable_hello()->set_protocol(newest);
    request.mutable_hello()->set_protocol_min(oldest);
    request.mutable_hello()->mutable_session()->set_version("0.1.7");
    service_->on_request(connection, request);
    EXPECT_EQ(connection->replies.size(), 1u);
    return connection->replies.empty() ? pb::Reply() : connection->replies[0];
  };
  EXPECT_EQ(hello(0, kProtocolOldest).hello().protocol(), kProtocolOldest);
  EXPECT_EQ(hello(1, kProtocolNewest + 7).hello().protocol(), kProtocolNewest);
  const auto newer = hello(kProtocolNewest + 1, kProtocolNewest + 2);
  EXPECT_EQ(newer.error(), wire(Errc::unsupported));
  EXPECT_THAT(newer.error_text(), testing::HasSubstr("install Data Cloud 0.1.7 or later where"));
  const auto older = hello(1, 1);
  EXPECT_EQ(older.error(), wire(Errc::unsupported));
  EXPECT_THAT(older.error_text(),
              testing::HasSubstr("install Data Cloud " DATACLOUD_VERSION " or later on this"));
}

TEST_F(SessionsTest, SessionsAreBounded) {
  config_.sessions_max = 1;
  restart();
  Client a = mount(11);
  auto second = std::make_shared<FakeConnection>(12);
  pb::Request request;
  request.mutable_hello()->set_protocol(kProtocolOldest);
  service_->on_request(second, request);
  ASSERT_EQ(second->replies.size(), 1u);
  EXPECT_EQ(second->replies[0].error(), wire(Errc::unavailable));
}

TEST_F(SessionsTest, TheToolChangesNothing) {
  Client t = tool();
  EXPECT_EQ(call(t, create_request("f")).error(), wire(Errc::invalid));
  EXPECT_EQ(call(t, lookup_request("f")).error(), wire(Errc::invalid));
}

// An older copy of the state directory takes the place of the newer one.
TEST_F(SessionsTest, RestoredRecordsEndSessionsThatHaveSeenNewerOnes) {
  Client old = mount(11), idle = mount(12);
  idle.sequence = call(idle, lookup_request("none")).sequence();
  const std::string live = root_ + "/meta", copy = root_ + "/copy";
  stop();
  std::filesystem::copy(live, copy, std::filesystem::copy_options::recursive);
  start();
  connect(old);
  EXPECT_TRUE(old.hello.resumed());
  connect(idle);  // requests of others wait for it
  Client young = mount(13);
  const SessionId of_old = old.session, of_young = young.session;
  for (Client* c : {&old, &young}) {
    grant(*c, IdKind::version);
    c->sequence = call(*c, lookup_request("none")).sequence();
  }
  stop();
  std::filesystem::remove_all(live);
  std::filesystem::rename(copy, live);
  start();
  connect(old);
  EXPECT_FALSE(old.hello.resumed());
  EXPECT_NE(old.session, of_old);
  connect(young);
  EXPECT_FALSE(young.hello.resumed());
  EXPECT_NE(young.session, of_young) << "its leases carry the number of the session";
  connect(idle);
  EXPECT_TRUE(idle.hello.resumed()) << "it has seen nothing that is gone";
}

TEST_F(SessionsTest, ARequestSentAgainIsExecutedOnce) {
  Client a = mount(11);
  auto request = create_request("f");
  request.set_id(++a.last_id);
  service_->on_request(a.connection, request);
  const auto first = await(a, 1);
  ASSERT_EQ(first.error(), 0);
  for (const bool daemon_restarted : {false, true}) {
    SCOPED_TRACE(daemon_restarted);
    if (daemon_restarted) {
      restart();
    } else {
      disconnect(a);
    }
    connect(a);
    EXPECT_TRUE(a.hello.resumed());
    service_->on_request(a.connection, request);
    const auto again = await(a, 1);
    EXPECT_EQ(again.error(), 0) << again.error_text();
    EXPECT_EQ(again.attr().inode().ino(), first.attr().inode().ino());
    EXPECT_EQ(again.attr().lease(), pb::LEASE_WRITE);
  }
  // A new request of the same content is executed.
  EXPECT_EQ(call(a, create_request("f")).error(), EEXIST);
}

TEST_F(SessionsTest, AcknowledgedRepliesAreForgotten) {
  Client a = mount(11);
  for (int i = 0; i < 50; ++i) {
    auto request = create_request(fmt::format("f{}", i));
    request.set_acknowledged(a.last_id);
    EXPECT_EQ(call(a, request).error(), 0);
  }
  size_t stored = 0;
  const std::string behind_fence = key::reply(0, 1);
  ASSERT_TRUE(store_->begin().scan(behind_fence, key::after_prefix("Q"), [&](auto, auto) {
    ++stored;
    return true;
  }));
  EXPECT_EQ(stored, 1u);
}

TEST_F(SessionsTest, GrantsNeverRepeat) {
  Client a = mount(11), b = mount(12);
  std::set<uint64_t> seen;
  for (int i = 0; i < 10; ++i) {
    for (Client* c : {&a, &b}) {
      const uint64_t first = grant(*c, IdKind::instance, 7);
      for (uint64_t id = first; id < first + 7; ++id) EXPECT_TRUE(seen.insert(id).second);
    }
  }
  restart();
  connect(a);
  EXPECT_FALSE(a.hello.ids_revoked());
  disconnect(b);
  processes_.dead.insert(12);
  const uint64_t first = grant(a, IdKind::instance, 7);
  for (uint64_t id = first; id < first + 7; ++id) EXPECT_TRUE(seen.insert(id).second);
  pb::Request request;
  request.mutable_grant()->set_kind(1);
  request.mutable_grant()->set_count(UINT32_MAX);
  EXPECT_EQ(call(a, request).grant().count(), kGrantCountMax);
  for (const uint32_t kind : {0, 5}) {
    request.mutable_grant()->set_kind(kind);
    EXPECT_EQ(call(a, request).error(), wire(Errc::invalid));
  }
}

TEST_F(SessionsTest, CommitsMapBlocksAndRefuseForeignIds) {
  Client a = mount(11), b = mount(12);
  const InodeId ino = create(a, "f");
  write_block(a, ino);
  pb::Request request;
  request.mutable_map()->set_ino(ino);
  request.mutable_map()->set_blocks(10);
  EXPECT_EQ(call(a, request).map().runs_size(), 1);
  EXPECT_EQ(call(b, request).map().runs_size(), 1) << "the map is given without a lease";

  const auto foreign = put_stripe(grant(b, IdKind::stripe), grant(b, IdKind::instance));
  EXPECT_EQ(call(a, commit_request(foreign, ino, grant(a, IdKind::version), 1)).error(),
            wire(Errc::revoked));
  const auto own = put_stripe(grant(a, IdKind::stripe), grant(a, IdKind::instance));
  EXPECT_EQ(call(a, commit_request(own, ino, 1u << 30, 1)).error(), wire(Errc::revoked));
  EXPECT_EQ(call(b, commit_request(foreign, ino, grant(b, IdKind::version), 1)).error(),
            wire(Errc::stale))
      << "b does not hold the write lease";
}

TEST_F(SessionsTest, CommitsOfTooFewShardsAreRefused) {
  Client a = mount(11);
  const InodeId ino = create(a, "f");
  auto stripe = put_stripe(grant(a, IdKind::stripe), grant(a, IdKind::instance));
  for (const int c : {0, 3, 4}) stripe.mutable_shards(c)->set_state(pb::SHARD_MISSING);
  EXPECT_EQ(call(a, commit_request(stripe, ino, grant(a, IdKind::version))).error(),
            wire(Errc::invalid));
  stripe.mutable_shards(0)->set_state(pb::SHARD_PRESENT);
  stripe.mutable_shards(0)->set_site(99);
  EXPECT_EQ(call(a, commit_request(stripe, ino, grant(a, IdKind::version))).error(),
            wire(Errc::invalid));
}

TEST_F(SessionsTest, CommitsOfRemovedFilesAreDropped) {
  Client a = mount(11);
  const InodeId ino = create(a, "f");
  ASSERT_EQ(call(a, unlink_request("f")).error(), 0);
  EXPECT_EQ(call(a, release_request(ino)).error(), 0);
  Client t = tool();
  call(t, gc_request());
  const auto stripe = put_stripe(grant(a, IdKind::stripe), grant(a, IdKind::instance));
  const auto reply = call(a, commit_request(stripe, ino, grant(a, IdKind::version)));
  EXPECT_EQ(reply.error(), 0) << reply.error_text();
  EXPECT_THAT(outcomes(reply), testing::ElementsAre(pb::UpdateOutcome::GONE));
  EXPECT_EQ(objects(), 3u);
  call(t, gc_request());
  EXPECT_EQ(objects(), 0u);
}

TEST_F(SessionsTest, DurableCommitsWaitForTheDisk) {
  Client a = mount(11);
  const InodeId ino = create(a, "f");
  const auto stripe = put_stripe(grant(a, IdKind::stripe), grant(a, IdKind::instance));
  auto request = commit_request(stripe, ino, grant(a, IdKind::version));
  const uint64_t id = [&] {
    request.mutable_commit()->set_durable(true);
    return send(a, request);
  }();
  EXPECT_FALSE(answered(a, id)) << "answered before a sync could have happened";
  EXPECT_EQ(await(a, id).error(), 0);
}

TEST_F(SessionsTest, AKilledMountLeavesOnlyWhatItCommitted) {
  Client a = mount(11), b = mount(12);
  const InodeId ino = create(a, "f");
  write_block(a, ino);
  const InstanceId a_ids = grant(a, IdKind::instance), b_ids = grant(b, IdKind::instance);
  const std::string garbage = object_name({77, 0, a_ids + 3});
  const std::string others = object_name({78, 1, b_ids + 3});
  const std::string foreign = object_name({79, 2, InstanceId{1} << 40});
  put_object(2, garbage);
  put_object(2, others);
  put_object(2, foreign);
  put_object(4, "not-a-shard");
  processes_.dead.insert(11);
  disconnect(a);
  Client t = tool();
  const auto reply = call(t, gc_request());
  EXPECT_EQ(reply.gc().objects_deleted(), 1u);
  EXPECT_EQ(reply.gc().bytes_deleted(), 100u);
  EXPECT_EQ(reply.gc().unknown_objects(), 2u);
  EXPECT_FALSE(object_exists(2, garbage));
  EXPECT_TRUE(object_exists(2, others));
  EXPECT_TRUE(object_exists(2, foreign));
  EXPECT_EQ(objects(), 3u + 3u);
  // Its leases are free at once.
  EXPECT_EQ(call(b, lease_request(ino, pb::LEASE_WRITE)).attr().lease(), pb::LEASE_WRITE);
}

TEST_F(SessionsTest, SitesThatAreAwayAreScrubbedWhenTheyReturn) {
  Client a = mount(11);
  const InstanceId ids = grant(a, IdKind::instance);
  const std::string garbage = object_name({77, 0, ids});
  put_object(3, garbage);
  memory_[2].set_away(true);
  sites_->check_all(seconds(5));
  processes_.dead.insert(11);
  disconnect(a);
  Client t = tool();
  call(t, gc_request());
  EXPECT_TRUE(object_exists(3, garbage));
  restart();  // it is remembered
  memory_[2].set_away(false);
  sites_->check_all(seconds(5));
  Client u = tool();
  EXPECT_TRUE(until([&] { return sites_->find(3)->up(); }));
  call(u, gc_request());
  EXPECT_FALSE(object_exists(3, garbage));
}

TEST_F(SessionsTest, GoodbyeEndsWithoutAScrub) {
  Client a = mount(11);
  const std::string object = object_name({77, 0, grant(a, IdKind::instance)});
  put_object(1, object);
  pb::Request request;
  request.mutable_goodbye();
  EXPECT_EQ(call(a, request).error(), 0);
  Client t = tool();
  call(t, gc_request());
  EXPECT_TRUE(object_exists(1, object));
  restart();
  a.session = 0;
  EXPECT_EQ(call(a = mount(11), lookup_request("nothing")).error(), ENOENT) << "no grace needed";
}

TEST_F(SessionsTest, ASilentMountEndsWithItsLease) {
  config_.lease_ms = 10'000;
  restart();
  Client a = mount(11), b = mount(12);
  const InodeId ino = create(a, "f");
  disconnect(a);
  const uint64_t waiting = send(b, lease_request(ino, pb::LEASE_WRITE));
  pb::Request keepalive;
  keepalive.mutable_keepalive();
  for (int i = 0; i < 20; ++i) {  // 10 seconds: less than the lease and its ten per cent
    run_for(milliseconds(500));
    call(b, keepalive);
  }
  EXPECT_FALSE(answered(b, waiting));
  for (int i = 0; i < 6; ++i) {
    run_for(milliseconds(500));
    call(b, keepalive);
  }
  EXPECT_TRUE(answered(b, waiting));
  const SessionId old = a.session;
  connect(a);
  EXPECT_FALSE(a.hello.resumed());
  EXPECT_NE(a.session, old);
}

TEST_F(SessionsTest, AnotherProcessCannotTakeASession) {
  Client a = mount(11);
  Client thief;
  thief.pid = 12;
  thief.session = a.session;
  connect(thief);
  EXPECT_FALSE(thief.hello.resumed());
  EXPECT_NE(thief.session, a.session);
  EXPECT_FALSE(a.connection->closed);
}

TEST_F(SessionsTest, AfterARestartASessionHasItsIds) {
  Client a = mount(11);
  const InodeId ino = create(a, "f");
  const auto committed = write_block(a, ino);
  const auto late = put_stripe(grant(a, IdKind::stripe), grant(a, IdKind::instance));
  const uint64_t version = grant(a, IdKind::version);
  restart();
  connect(a, pb::CLIENT_MOUNT, {held(ino, pb::LEASE_WRITE, true)});
  EXPECT_TRUE(a.hello.resumed());
  EXPECT_FALSE(a.hello.ids_revoked());
  EXPECT_EQ(a.hello.start(), 2u);
  Client t = tool();
  EXPECT_EQ(call(t, gc_request()).gc().objects_deleted(), 0u) << "objects may belong to a commit";
  EXPECT_TRUE(object_exists(1, object_name({committed.id(), 0, committed.shards(0).instance()})));
  EXPECT_EQ(call(a, commit_request(late, ino, version, 1)).error(), 0);
  write_block(a, ino, 2);  // its lease is in force again
}

TEST_F(SessionsTest, IdsOfASessionThatDoesNotComeBackAreRevoked) {
  config_.lease_ms = 10'000;
  restart();
  Client a = mount(11);
  const auto garbage = put_stripe(grant(a, IdKind::stripe), grant(a, IdKind::instance));
  restart();
  Client t = tool();
  EXPECT_EQ(call(t, gc_request()).gc().objects_deleted(), 0u);
  run_for(seconds(12));
  call(t, gc_request());
  EXPECT_FALSE(object_exists(1, object_name({garbage.id(), 0, garbage.shards(0).instance()})));
}

TEST_F(SessionsTest, AfterARestartOthersWaitForThoseWhoHeldLeases) {
  Client a = mount(11), b = mount(12);
  const InodeId ino = create(a, "f");
  restart();
  connect(b);
  const uint64_t waiting = send(b, lookup_request("f"));
  run_for(seconds(2));
  EXPECT_FALSE(answered(b, waiting));
  connect(a, pb::CLIENT_MOUNT, {held(ino, pb::LEASE_WRITE)});
  EXPECT_EQ(recall(a).mode(), pb::LEASE_READ);
  EXPECT_EQ(await(b, waiting).attr().lease(), pb::LEASE_READ);
}

TEST_F(SessionsTest, AfterARestartNobodyWaitsForTheDead) {
  Client a = mount(11), b = mount(12);
  create(a, "f");
  processes_.dead.insert(11);
  restart();
  connect(b);
  EXPECT_TRUE(answered_now(b, send(b, lookup_request("f"))));
}

TEST_F(SessionsTest, AbandonedObjectsAreDeletedAndTheirIdsRevoked) {
  Client a = mount(11);
  const InodeId ino = create(a, "f");
  const auto kept = write_block(a, ino);
  const auto stripe = put_stripe(grant(a, IdKind::stripe), grant(a, IdKind::instance));
  pb::Request request;
  const auto abandon = [&](const pb::Stripe& s, int column) {
    auto* object = request.mutable_abandon()->add_objects();
    object->set_stripe(s.id());
    object->set_column(static_cast<uint32_t>(column));
    object->set_instance(s.shards(column).instance());
    object->set_site(s.shards(column).site());
  };
  abandon(stripe, 3);
  abandon(kept, 3);  // committed: must not be believed
  EXPECT_EQ(call(a, request).error(), 0);
  EXPECT_EQ(call(a, commit_request(stripe, ino, grant(a, IdKind::version), 1)).error(),
            wire(Errc::revoked));
  Client t = tool();
  call(t, gc_request());
  EXPECT_FALSE(object_exists(4, object_name({stripe.id(), 3, stripe.shards(3).instance()})));
  EXPECT_TRUE(object_exists(4, object_name({kept.id(), 3, kept.shards(3).instance()})));
  // Landed after its deletion: found when the session ends, even cleanly.
  put_object(4, object_name({stripe.id(), 3, stripe.shards(3).instance()}));
  pb::Request goodbye;
  goodbye.mutable_goodbye();
  call(a, goodbye);
  call(t, gc_request());
  EXPECT_FALSE(object_exists(4, object_name({stripe.id(), 3, stripe.shards(3).instance()})));
}

TEST_F(SessionsTest, TrafficAddsMountsAndIsCountedOnce) {
  Client a = mount(11), t = tool();
  pb::Request traffic;
  traffic.mutable_traffic()->set_reset(true);
  call(t, traffic);
  pb::Request report;
  auto* row = report.mutable_keepalive()->add_traffic();
  row->set_site(2);
  row->set_purpose(static_cast<uint32_t>(Purpose::repair));
  row->set_bytes_written(1000);
  row->set_operations(1);
  report.mutable_keepalive()->add_traffic()->set_site(99);
  report.set_id(++a.last_id);
  service_->on_request(a.connection, report);
  disconnect(a);
  connect(a);
  service_->on_request(a.connection, report);
  const auto reply = call(t, traffic);
  uint64_t written = 0;
  for (const auto& r : reply.traffic().rows()) {
    EXPECT_LE(r.site(), kSites);
    if (r.purpose() == static_cast<uint32_t>(Purpose::repair)) written += r.bytes_written();
  }
  EXPECT_EQ(written, 1000u);
}

TEST_F(SessionsTest, StatusCountsShardsAndNamesProblems) {
  Client a = mount(11), t = tool();
  const InodeId ino = create(a, "f");
  write_block(a, ino);
  pb::Request request;
  request.mutable_status();
  auto status = call(t, request).status();
  EXPECT_EQ(status.health(), "ok") << status.ShortDebugString();
  ASSERT_EQ(status.sites_size(), 5);
  EXPECT_EQ(status.sites(0).shards(), 1u);
  EXPECT_EQ(status.sites(1).shards(), 0u);
  EXPECT_EQ(status.sites(3).shard_bytes(), 100u);
  EXPECT_EQ(status.stripes(), 1u);
  ASSERT_EQ(status.mounts_size(), 1);
  EXPECT_TRUE(status.mounts(0).connected());
  const auto by_remaining = [&] {
    pb::StatusDetails details;
    EXPECT_TRUE(details.ParseFromString(status.details()));
    const auto& counts = details.stripes_by_remaining();
    return std::vector<uint64_t>(counts.begin(), counts.end());
  };
  EXPECT_EQ(by_remaining(), (std::vector<uint64_t>{0, 0, 1}));

  for (const int site : {0, 1}) memory_[site].set_away(true);
  sites_->check_all(seconds(5));
  status = call(t, request).status();
  EXPECT_EQ(status.health(), "degraded");
  EXPECT_THAT(status.problems(0), testing::HasSubstr("site1"));
  EXPECT_EQ(by_remaining(), (std::vector<uint64_t>{0, 1}))
      << "one shard was at a site that is away";
  memory_[2].set_away(true);
  sites_->check_all(seconds(5));
  status = call(t, request).status();
  EXPECT_EQ(status.health(), "failing");
}

TEST_F(SessionsTest, LocateNamesEveryObject) {
  Client a = mount(11), t = tool();
  const InodeId ino = create(a, "f");
  const auto stripe = write_block(a, ino);
  pb::Request request;
  request.mutable_locate()->set_path("/f");
  const auto reply = call(t, request);
  ASSERT_EQ(reply.error(), 0) << reply.error_text();
  EXPECT_EQ(reply.locate().inode().ino(), ino);
  ASSERT_EQ(reply.locate().stripes_size(), 1);
  ASSERT_EQ(reply.locate().shard_locations_size(), 5);
  EXPECT_EQ(reply.locate().shard_locations(0),
            "memory:" + object_name({stripe.id(), 0, stripe.shards(0).instance()}));
  EXPECT_EQ(reply.locate().shard_locations(1), "");
  request.mutable_locate()->set_path("/nothing");
  EXPECT_EQ(call(t, request).error(), ENOENT);
}

TEST(SiteSpaceTest, LogicalCapacityIsBoundedByFullSites) {
  EXPECT_EQ(logical_capacity({100, 100, 100, 100, 100}, 3, 5), 300u);
  EXPECT_EQ(logical_capacity({100, 100, 100, 100, 10}, 3, 5), 30u);  // every stripe needs all five
  EXPECT_EQ(logical_capacity({100, 100, 100}, 3, 5), 180u);          // two columns on two of them
  EXPECT_EQ(logical_capacity({}, 3, 5), 0u);
  EXPECT_EQ(logical_capacity({UINT64_MAX, UINT64_MAX}, 1, 2), uint64_t{1} << 58);
}

}  // namespace
}  // namespace datacloud
