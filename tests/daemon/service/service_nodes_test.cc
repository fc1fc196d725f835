// Nodes as the service sees them: who is admitted, who joins, what roles permit, and revocation.
#include "common/proto/admin.pb.h"
#include "common/rpc/protocol_versions.h"
#include "common/tls/join_line.h"
#include "daemon/metadata/record_keys.h"
#include "tests/daemon/service/nodes_rig.h"

namespace datacloud {
namespace {

using testing::HasSubstr;

constexpr int64_t kDayNs = 24ll * 3600 * kNsPerSecond;

TEST_F(NodesTest, AMachineJoinsOnceAndConnects) {
  const SecretKey secret = SecretKey::random();
  ASSERT_TRUE(add("gpu07", secret));
  EXPECT_EQ(record("gpu07").invitation().sealed(), "sealed for gpu07");
  Machine machine;
  const auto reply = join(secret, machine.key);
  ASSERT_EQ(reply.error(), 0) << reply.error_text();
  EXPECT_EQ(reply.certificate().sealed(), "sealed for gpu07");
  EXPECT_EQ(as_text(authority_->certificate()), reply.certificate().authority());
  machine.certificate = to_bytes(as_bytes(reply.certificate().certificate()));
  // The answer may have got lost: the same machine may ask again, no other.
  EXPECT_EQ(join(secret, machine.key).error(), 0);
  EXPECT_THAT(join(secret, NodeKey::generate()).error_text(), HasSubstr("was used"));
  EXPECT_THAT(join(SecretKey::random(), machine.key).error_text(), HasSubstr("no line"));
  ASSERT_EQ(hello(machine).error(), 0);
  EXPECT_EQ(record("gpu07").invitation().sealed(), "");
  EXPECT_THAT(join(secret, machine.key).error_text(), HasSubstr("was used"));
  restart();
  EXPECT_TRUE(admit(machine.certificate)) << "records survive";
  EXPECT_THAT(join(secret, machine.key).error_text(), HasSubstr("was used"));
}

TEST_F(NodesTest, LinesExpireAndAreWithdrawnAndReplaced) {
  const SecretKey first = SecretKey::random(), second = SecretKey::random();
  ASSERT_TRUE(add("gpu07", first, {"mount"}, 1));
  std::this_thread::sleep_for(milliseconds(5));
  expect_refused(make_self_signed(invitation_key(first)), Refusal::invitation, "has expired");
  ASSERT_TRUE(add("gpu07", second));
  expect_refused(make_self_signed(invitation_key(first)), Refusal::invitation, "was replaced");
  ASSERT_TRUE(revoke("gpu07"));
  expect_refused(make_self_signed(invitation_key(second)), Refusal::invitation, "was revoked");
  EXPECT_EQ(record("gpu07").invitation().sealed(), "");
}

TEST_F(NodesTest, InvitationsCanJoinAndNothingElse) {
  const SecretKey secret = SecretKey::random();
  ASSERT_TRUE(add("gpu07", secret));
  const auto peer = admit(make_self_signed(invitation_key(secret)));
  ASSERT_TRUE(peer);
  auto connection = std::make_shared<FakeConnection>(peer.value());
  pb::Request request;
  request.mutable_hello()->set_protocol(kProtocolOldest);
  service_->on_request(connection, request);
  EXPECT_THAT(first_reply(*connection).error_text(), HasSubstr("nothing else"));
  connection->replies.clear();
  request.mutable_status();
  request.set_id(1);
  service_->on_request(connection, request);
  EXPECT_THAT(first_reply(*connection).error_text(), HasSubstr("say hello"));
  connection->replies.clear();
  request.mutable_join()->set_request("noise");
  service_->on_request(connection, request);
  EXPECT_THAT(first_reply(*connection).error_text(), HasSubstr("request does not parse"));
  // And who is no invited machine cannot join.
  auto local = std::make_shared<FakeConnection>(77);
  request.mutable_join()->set_request(
      std::string(as_text(make_certificate_request(NodeKey::generate()))));
  service_->on_request(local, request);
  EXPECT_THAT(first_reply(*local).error_text(), HasSubstr("only a machine with a line"));
  EXPECT_EQ(record("gpu07").state(), pb::NODE_INVITED);
}

TEST_F(NodesTest, EveryKindOfStrangerIsToldWhy) {
  Machine machine = joined("gpu07");
  EXPECT_TRUE(admit(machine.certificate));
  PeerCredentials peer;
  Refusal reason{};
  const auto none = service_->admit_peer(PeerCertificate(), peer, reason);
  ASSERT_FALSE(none);
  EXPECT_EQ(reason, Refusal::no_certificate);
  const auto other =
      CertificateAuthority::derive(service_key_, "00000000-0000-4000-8000-000000000002");
  const auto issue = [&](const CertificateAuthority& authority, const std::string& name,
                         NodeRoles roles, int64_t age_ns = 0) {
    return authority
        .issue(machine.key, {authority.cloud_uuid(), name, roles}, wall_now_ns() - age_ns, kDayNs)
        .der;
  };
  expect_refused(issue(other, "gpu07", NodeRole::mount), Refusal::wrong_cloud,
                 "00000000-0000-4000-8000-000000000002");
  expect_refused(make_self_signed(NodeKey::from_seed(SecretKey::random())), Refusal::foreign,
                 "not signed by this cloud's authority");
  expect_refused(issue(*authority_, "gpu07", NodeRole::mount, 2 * kDayNs), Refusal::expired,
                 "has expired");
  expect_refused(machine.certificate, Refusal::expired, "has expired", 91 * kDayNs);
  expect_refused(issue(*authority_, "daemon", NodeRole::daemon), Refusal::wrong_role,
                 "not one of a node");
  // Signed by the authority, but not by the daemon's records.
  expect_refused(issue(*authority_, "gpu07", NodeRole::mount), Refusal::revoked, "not in force");
  expect_refused(issue(*authority_, "nobody", NodeRole::mount), Refusal::revoked, "not known");
}

TEST_F(NodesTest, SessionsAreResumedBySecretAndEndByLease) {
  Machine machine = joined("gpu07");
  const auto first = hello(machine);
  ASSERT_EQ(first.error(), 0) << first.error_text();
  const InodeId ino = create(machine.client, "file", true);
  disconnect(machine.client);
  run_for(seconds(5));
  const auto again = hello(machine);
  EXPECT_TRUE(again.hello().resumed()) << "also from another address, as another process";
  EXPECT_EQ(again.hello().session(), first.hello().session());
  // Neither another secret nor another machine, nor a process here, gets the session.
  Machine thief = joined("gpu08");
  thief.client.session = machine.client.session;
  EXPECT_FALSE(hello(thief).hello().resumed());
  Machine guess = machine;
  EXPECT_FALSE(hello(guess, pb::CLIENT_MOUNT, std::string(32, 'x')).hello().resumed());
  Client local;
  local.pid = 0;
  local.session = machine.client.session;
  connect(local);
  EXPECT_FALSE(local.hello.resumed());
  EXPECT_THAT(hello(guess, pb::CLIENT_MOUNT, "short").error_text(), HasSubstr("secret"));
  // After a restart too: the record holds the secret's hash.
  pb::Session session;
  ASSERT_TRUE(store_->begin().get(key::session(machine.client.session), session).value());
  EXPECT_EQ(session.secret().size(), 32u);
  EXPECT_NE(session.secret(), std::string(32, 's'));
  EXPECT_EQ(session.node(), "gpu07") << "what the peer says it is does not count";
  restart();
  machine.client.sequence = 0;
  EXPECT_TRUE(hello(machine).hello().resumed());
  EXPECT_NE(ino, 0u);
  // Nobody here can see whether its process lives: the lease decides.
  processes_.dead.insert(0);
  disconnect(machine.client);
  run_for(seconds(60));
  EXPECT_TRUE(store_->begin().get(key::session(machine.client.session), session).value());
  loop_->advance(milliseconds(config_.lease_ms + config_.lease_ms / 10));
  run_for(seconds(2));
  EXPECT_FALSE(store_->begin().get(key::session(machine.client.session), session).value());
  EXPECT_FALSE(hello(machine).hello().resumed());
}

TEST_F(NodesTest, ReadOnlyNodesChangeNothing) {
  auto writer = mount(10);
  const InodeId ino = create(writer, "file");
  EXPECT_EQ(call(writer, release_request(ino)).error(), 0);
  Machine machine = joined("viewer", {"mount-ro"});
  const auto greeted = hello(machine);
  ASSERT_EQ(greeted.error(), 0) << greeted.error_text();
  EXPECT_TRUE(greeted.hello().read_only());
  auto& viewer = machine.client;
  EXPECT_EQ(call(viewer, lookup_request("file")).error(), 0);
  EXPECT_EQ(call(viewer, lease_request(ino, pb::LEASE_READ)).error(), 0);
  EXPECT_EQ(call(viewer, lease_request(ino, pb::LEASE_WRITE)).error(), EROFS);
  const Sequence before = store_->sequence();
  size_t refused = 0;
  for (const auto& operation : MetadataService::operations()) {
    if (operation.access != Access::write) continue;
    pb::Request request;
    const auto* field = pb::Request::descriptor()->FindFieldByNumber(operation.request);
    pb::Request::GetReflection()->MutableMessage(&request, field);
    EXPECT_EQ(call(viewer, request).error(), EROFS) << field->name();
    ++refused;
  }
  EXPECT_GE(refused, 10u);
  EXPECT_EQ(store_->sequence(), before);
}

TEST_F(NodesTest, RolesPermitWhatTheyAreFor) {
  const auto errors_of = [&](const std::string& role) {
    Machine machine = joined(role + "-node", {role});
    EXPECT_EQ(hello(machine, pb::CLIENT_TOOL).error(), 0);
    std::map<std::string, int> errors;
    pb::Request status, gc, lookup, admin;
    status.mutable_status();
    gc.mutable_gc();
    pb::AdminRequest wanted;
    wanted.mutable_node();
    admin.set_admin(wanted.SerializeAsString());
    errors["status"] = call(machine.client, status).error();
    errors["gc"] = call(machine.client, gc).error();
    errors["node"] = call(machine.client, admin).error();
    wanted.mutable_audit_log();
    admin.set_admin(wanted.SerializeAsString());
    errors["audit-log"] = call(machine.client, admin).error();
    return errors;
  };
  using Errors = std::map<std::string, int>;
  EXPECT_EQ(errors_of("admin"), (Errors{{"status", 0}, {"gc", 0}, {"node", 0}, {"audit-log", 0}}));
  EXPECT_EQ(errors_of("auditor"),
            (Errors{{"status", 0}, {"gc", EACCES}, {"node", EACCES}, {"audit-log", 0}}));
  EXPECT_EQ(errors_of("mount"),
            (Errors{{"status", EACCES}, {"gc", EACCES}, {"node", EACCES}, {"audit-log", EACCES}}));
  Machine auditor = joined("second", {"auditor"});
  EXPECT_THAT(hello(auditor).error_text(), HasSubstr("may not mount"));
}

TEST_F(NodesTest, RevocationHoldsAtOnceOnOpenConnections) {
  Machine machine = joined("gpu07"), other = joined("gpu08");
  ASSERT_EQ(hello(machine).error(), 0);
  ASSERT_EQ(hello(other).error(), 0);
  Machine knocking = machine;  // admitted, and has not said hello yet
  const auto peer = admit(machine.certificate);
  ASSERT_TRUE(peer);
  auto waiting = std::make_shared<FakeConnection>(peer.value());
  ASSERT_TRUE(revoke("gpu07"));
  EXPECT_TRUE(machine.client.connection->closed);
  EXPECT_FALSE(other.client.connection->closed);
  pb::Session session;
  EXPECT_FALSE(store_->begin().get(key::session(machine.client.session), session).value());
  expect_refused(machine.certificate, Refusal::revoked, "gpu07 was revoked");
  pb::Request request;
  request.mutable_hello()->set_protocol(kProtocolOldest);
  request.mutable_hello()->mutable_session()->set_secret(std::string(32, 's'));
  service_->on_request(waiting, request);
  EXPECT_THAT(first_reply(*waiting).error_text(), HasSubstr("was revoked"));
  restart();
  expect_refused(machine.certificate, Refusal::revoked, "gpu07 was revoked");
  // The name may be given again: to another machine.
  Machine anew = joined("gpu07");
  EXPECT_TRUE(admit(anew.certificate));
  expect_refused(machine.certificate, Refusal::revoked, "another machine");
  EXPECT_FALSE(revoke("nobody"));
}

TEST_F(NodesTest, CertificatesAreRenewedAndOldOnesStayInForce) {
  Machine machine = joined("gpu07");
  ASSERT_EQ(hello(machine).error(), 0);
  for (int i = 0; i < 10; ++i) {
    pb::Request request;
    request.mutable_renew()->set_request(
        std::string(as_text(make_certificate_request(machine.key))));
    const auto reply = call(machine.client, request);
    ASSERT_EQ(reply.error(), 0) << reply.error_text();
    EXPECT_TRUE(admit(as_bytes(reply.certificate().certificate())));
    EXPECT_EQ(reply.certificate().sealed(), "");
    if (i == 0) {
      EXPECT_TRUE(admit(machine.certificate)) << "the connection still uses it";
    }
  }
  EXPECT_LE(record("gpu07").certificates_size(), kNodeCertificatesMax);
  auto local = tool();
  pb::Request request;
  request.mutable_renew();
  EXPECT_THAT(call(local, request).error_text(), HasSubstr("no certificate"));
}

TEST_F(NodesTest, NamesRolesAndSizesAreChecked) {
  const SecretKey secret = SecretKey::random();
  for (const auto& name : {"", "a/b", "-a", "a b", "\xff"}) EXPECT_FALSE(add(name, secret)) << name;
  EXPECT_FALSE(add("a", secret, {}));
  EXPECT_FALSE(add("a", secret, {"king"}));
  EXPECT_FALSE(add("a", secret, {"daemon"}));
  EXPECT_FALSE(add("a", secret, {"mount"}, 0));
  EXPECT_FALSE(add("a", secret, {"mount"}, 31ull * 24 * 3600 * 1000));
  pb::NodeRequest request;
  request.set_action(pb::NODE_ADD);
  request.set_name("a");
  request.add_roles("mount");
  request.set_valid_ms(1000);
  request.set_key_hash(std::string(31, 'k'));
  EXPECT_FALSE(ask(request)) << "nothing sealed, and no fingerprint";
  request.set_key_hash(std::string(32, 'k'));
  request.set_sealed(std::string(kSealedBundleBytesMax + 1, 's'));
  EXPECT_FALSE(ask(request));
  request.set_sealed("s");
  request.set_key_hash("short");
  EXPECT_FALSE(ask(request));
  EXPECT_TRUE(ask({}).value().nodes().empty());
  Machine machine = joined("gpu07");
  const auto twice = add("gpu07", secret);
  ASSERT_FALSE(twice);
  EXPECT_THAT(twice.error().text(), HasSubstr("joined already"));
  const auto listed = ask({});
  ASSERT_TRUE(listed);
  ASSERT_EQ(listed.value().nodes_size(), 1);
  EXPECT_EQ(listed.value().nodes(0).node().invitation().sealed(), "");
  EXPECT_EQ(listed.value().authority_hash().size(), 32u);
}

// A certificate of an organisation's authority is a fingerprint in a record.
TEST_F(NodesTest, CertificatesOfAnOrganisationCountByTheRecord) {
  const auto certified = [&](const std::string& name, char fingerprint,
                             const std::string& role = "mount") {
    pb::NodeRequest request;
    request.set_action(pb::NODE_ADD);
    request.set_name(name);
    request.add_roles(role);
    request.set_key_hash(std::string(32, fingerprint));
    return ask(request);
  };
  const auto shows = [&](char fingerprint, PeerCredentials& peer, Refusal& reason) {
    PeerCertificate shown;
    shown.verdict = PeerCertificate::Verdict::good;
    shown.serial = Bytes(32, static_cast<uint8_t>(fingerprint));
    shown.identity.name = "/CN=gpu07";
    shown.not_after_ns = wall_now_ns() + kDayNs;
    return service_->admit_peer(shown, peer, reason);
  };
  PeerCredentials peer;
  Refusal reason{};
  const auto unknown = shows('a', peer, reason);
  ASSERT_FALSE(unknown);
  EXPECT_EQ(reason, Refusal::revoked);
  EXPECT_THAT(unknown.error().text(), HasSubstr("/CN=gpu07"));
  EXPECT_THAT(unknown.error().text(), HasSubstr("--fingerprint 6161"));
  ASSERT_TRUE(certified("gpu07", 'a'));
  ASSERT_TRUE(shows('a', peer, reason));
  EXPECT_EQ(peer.node, "gpu07");
  EXPECT_EQ(peer.roles.text(), "mount");
  EXPECT_TRUE(certified("gpu07", 'a')) << "once more is no harm";
  EXPECT_FALSE(certified("gpu07", 'a', "admin")) << "but not with another role";
  EXPECT_FALSE(certified("gpu08", 'a')) << "nor for another node";
  EXPECT_TRUE(certified("gpu07", 'b'));
  EXPECT_TRUE(shows('a', peer, reason));
  EXPECT_TRUE(shows('b', peer, reason));
  restart();
  EXPECT_TRUE(shows('b', peer, reason));
  ASSERT_TRUE(revoke("gpu07"));
  EXPECT_FALSE(shows('a', peer, reason));
  EXPECT_FALSE(shows('b', peer, reason));
}

}  // namespace
}  // namespace datacloud
