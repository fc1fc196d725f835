// Nodes before the service: machines with keys and certificates of their own that are invited, join
// and say hello.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/proto/admin.pb.h"
#include "common/rpc/protocol_versions.h"
#include "common/tls/join_line.h"
#include "daemon/metadata/record_keys.h"
#include "tests/daemon/service/service_rig.h"

namespace datacloud {

class NodesTest : public ServiceTest {
 protected:
  // A machine: its key, its certificate, and how it comes in.
  struct Machine {
    NodeKey key = NodeKey::generate();
    Bytes certificate;
    Client client;
  };

  result<pb::NodeReply> ask(pb::NodeRequest wanted) {
    auto asker = tool();
    pb::AdminRequest admin;
    *admin.mutable_node() = std::move(wanted);
    pb::Request request;
    request.set_admin(admin.SerializeAsString());
    const auto reply = call(asker, request);
    TRY(reply_error(reply));
    pb::AdminReply answer;
    EXPECT_TRUE(answer.ParseFromString(reply.admin()));
    return answer.node();
  }
  result<pb::NodeReply> add(const std::string& name, const SecretKey& secret,
                            std::vector<std::string> roles = {"mount"},
                            uint64_t valid_ms = 3'600'000, const std::string& directory = "") {
    pb::NodeRequest request;
    request.set_action(pb::NODE_ADD);
    request.set_name(name);
    for (auto& role : roles) request.add_roles(role);
    request.set_key_hash(std::string(as_text(invitation_key(secret).hash())));
    request.set_sealed("sealed for " + name);
    request.set_valid_ms(valid_ms);
    request.set_directory(directory);
    return ask(request);
  }
  result<pb::NodeReply> revoke(const std::string& name) {
    pb::NodeRequest request;
    request.set_action(pb::NODE_REVOKE);
    request.set_name(name);
    return ask(request);
  }

  result<PeerCredentials> admit(ByteView certificate, Refusal* told = nullptr,
                                int64_t later_ns = 0) {
    PeerCredentials peer;
    peer.address = "10.0.0.7:1234";
    Refusal reason = Refusal::handshake;
    const auto shown = judge_certificate(certificate, authority_->certificate(),
                                         CertificateUse::client, wall_now_ns() + later_ns);
    const auto done = service_->admit_peer(shown, peer, reason);
    if (told != nullptr) *told = reason;
    if (!done) return failure(done.error());
    return peer;
  }
  void expect_refused(ByteView certificate, Refusal reason, const std::string& text,
                      int64_t later_ns = 0) {
    Refusal told{};
    const auto peer = admit(certificate, &told, later_ns);
    ASSERT_FALSE(peer);
    EXPECT_EQ(told, reason) << refusal_name(told);
    EXPECT_THAT(peer.error().text(), testing::HasSubstr(text));
    EXPECT_EQ(peer.error().errno_value(), EACCES);
  }

  pb::Reply first_reply(FakeConnection& connection) {
    EXPECT_TRUE(until([&] { return !connection.replies.empty(); }));
    return connection.replies.empty() ? pb::Reply() : connection.replies.front();
  }
  pb::Reply join(const SecretKey& secret, const NodeKey& key) {
    const auto peer = admit(make_self_signed(invitation_key(secret)));
    if (!peer) {
      pb::Reply refused;
      set_error(refused, peer.error());
      return refused;
    }
    auto connection = std::make_shared<FakeConnection>(peer.value());
    pb::Request request;
    request.mutable_join()->set_request(std::string(as_text(make_certificate_request(key))));
    service_->on_request(connection, request);
    return first_reply(*connection);
  }
  Machine joined(const std::string& name, std::vector<std::string> roles = {"mount"},
                 const std::string& directory = "") {
    const SecretKey secret = SecretKey::random();
    const auto added = add(name, secret, std::move(roles), 3'600'000, directory);
    EXPECT_TRUE(added) << added.error().text();
    Machine machine;
    const auto reply = join(secret, machine.key);
    EXPECT_EQ(reply.error(), 0) << reply.error_text();
    machine.certificate = to_bytes(as_bytes(reply.certificate().certificate()));
    return machine;
  }
  pb::Reply hello(Machine& machine, pb::ClientKind kind = pb::CLIENT_MOUNT,
                  const std::string& secret = std::string(32, 's'),
                  const std::vector<pb::HeldLease>& leases = {}) {
    const auto peer = admit(machine.certificate);
    EXPECT_TRUE(peer) << peer.error().text();
    machine.client.connection = std::make_shared<FakeConnection>(peer.value());
    pb::Request request;
    request.mutable_hello()->set_protocol(kProtocolOldest);
    request.mutable_hello()->set_kind(kind);
    request.mutable_hello()->mutable_session()->set_id(machine.client.session);
    request.mutable_hello()->mutable_session()->set_secret(secret);
    request.mutable_hello()->mutable_session()->set_node("somebody-else");
    for (const auto& lease : leases) *request.mutable_hello()->add_leases() = lease;
    service_->on_request(machine.client.connection, request);
    const auto reply = first_reply(*machine.client.connection);
    machine.client.connection->replies.clear();
    if (reply.error() == 0) machine.client.session = reply.hello().session();
    machine.client.hello = reply.hello();
    return reply;
  }
  pb::Node record(const std::string& name) {
    pb::Node node;
    EXPECT_TRUE(store_->begin().get(key::node(name), node).value());
    return node;
  }
};

}  // namespace datacloud
