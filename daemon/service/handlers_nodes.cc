// Nodes: who is admitted over TLS, how a machine joins, renewals, revocation, and what roles permit
// (docs/nodes.md).
//
// The record of a node decides, not what its certificate says: so a revocation holds from the
// moment it is committed, on open connections too.
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <cstdlib>

#include "common/base/hex.h"
#include "common/base/log.h"
#include "common/net/address.h"
#include "common/proto/admin.pb.h"
#include "common/tls/organisation.h"
#include "daemon/records/namespace_ops.h"
#include "daemon/service/service.h"

namespace datacloud {
namespace {

constexpr size_t kSecretBytesMin = 16, kSecretBytesMax = 64;
constexpr uint64_t kLineValidMsMax = 30ull * 24 * 3600 * 1000;
constexpr int64_t kNsPerMs = 1'000'000;

std::string sha256(std::string_view bytes) {
  std::string digest(32, '\0');
  if (EVP_Digest(bytes.data(), bytes.size(), reinterpret_cast<uint8_t*>(digest.data()), nullptr,
                 EVP_sha256(), nullptr) != 1) {
    std::abort();
  }
  return digest;
}

std::string date(int64_t ns) {
  return fmt::format("{:%Y-%m-%d %H:%M:%S} UTC",
                     fmt::gmtime(static_cast<std::time_t>(ns / kNsPerSecond)));
}

NodeRoles roles_of(const pb::Node& node) {
  auto roles = NodeRoles::parse(std::vector<std::string>(node.roles().begin(), node.roles().end()));
  return roles ? roles.value() : NodeRoles();
}

Error not_permitted(std::string text) { return Error::posix(EACCES, std::move(text)); }

// Empty: its line can be used by a machine with this key (empty: not known yet).
std::string line_problem(const pb::Node& node, std::string_view node_key_hash) {
  const auto& line = node.invitation();
  if (node.state() == pb::NODE_REVOKED)
    return fmt::format("node {} was revoked on {}, and the line with it", node.name(),
                       date(node.revoked_ns()));
  if (line.used_ns() != 0 &&
      (line.sealed().empty() || (!node_key_hash.empty() && node_key_hash != line.node_key_hash())))
    return fmt::format("the line for node {} was used on {}; each line works once", node.name(),
                       date(line.used_ns()));
  if (wall_now_ns() > line.expires_ns())
    return fmt::format("the line for node {} has expired on {}", node.name(),
                       date(line.expires_ns()));
  return "";
}

constexpr const char* kNewLine = ": `datacloud node add` makes a new one";

}  // namespace

result<const pb::Node*> MetadataService::node_in_force(const PeerCredentials& peer,
                                                       Refusal& reason) const {
  reason = Refusal::revoked;
  const pb::Node* node = nodes_.find(peer.node);
  if (node == nullptr)
    return failure(not_permitted("node " + peer.node + " is not known to this cloud" + kNewLine));
  if (node->state() == pb::NODE_REVOKED)
    return failure(not_permitted(
        fmt::format("node {} was revoked on {}", peer.node, date(node->revoked_ns()))));
  if (!holds_certificate(*node, peer.serial))
    return failure(not_permitted("this certificate of node " + peer.node +
                                 " is not in force any more: another machine has joined as it"));
  if (wall_now_ns() > peer.certificate_end_ns) {
    reason = Refusal::expired;
    return failure(
        not_permitted(fmt::format("the certificate of node {} has expired on {}; let it "
                                  "join again",
                                  peer.node, date(peer.certificate_end_ns))));
  }
  return node;
}

result<void> MetadataService::admit_peer(const PeerCertificate& shown, PeerCredentials& peer,
                                         Refusal& reason) {
  using Verdict = PeerCertificate::Verdict;
  const auto refused = [&](Refusal why, const std::string& text) {
    reason = why;
    return failure(not_permitted(text));
  };
  switch (shown.verdict) {
    case Verdict::none:
      return refused(Refusal::no_certificate,
                     "no certificate was shown; `datacloud join` makes one");
    case Verdict::foreign:
      if (const pb::Node* invited = nodes_.by_invitation(shown.key_hash)) {
        if (const auto problem = line_problem(*invited, ""); !problem.empty())
          return refused(Refusal::invitation, problem + kNewLine);
        peer.invitation = shown.key_hash;
        return success();
      }
      if (const auto name = nodes_.replaced(shown.key_hash); !name.empty()) {
        return refused(Refusal::invitation,
                       fmt::format("the line for node {} was replaced by a newer one of "
                                   "`datacloud node add {}`",
                                   name, name));
      }
      if (!shown.identity.cloud_uuid.empty() && shown.identity.cloud_uuid != deps_.cloud.uuid()) {
        return refused(
            Refusal::wrong_cloud,
            fmt::format("the certificate is one of cloud {}, and this is cloud {} ({})",
                        shown.identity.cloud_uuid, deps_.cloud.uuid(), deps_.cloud.name()));
      }
      return refused(Refusal::foreign, "the certificate " + shown.problem +
                                           ", and no line of this cloud fits it" + kNewLine);
    case Verdict::expired:
      return refused(
          Refusal::expired,
          fmt::format("the certificate of node {} {} (in force from {} to {})", shown.identity.name,
                      shown.problem, date(shown.not_before_ns), date(shown.not_after_ns)));
    case Verdict::unfit:
      return refused(Refusal::wrong_role, "the certificate " + shown.problem);
    case Verdict::good:
      break;
  }
  // Of the organisation: whose it is, and what that node may, the record says.
  const bool organisations = shown.serial.size() == kFingerprintBytes;
  if (!organisations && shown.identity.cloud_uuid != deps_.cloud.uuid())
    return refused(Refusal::wrong_cloud, "the certificate is one of another cloud");
  peer.node = shown.identity.name;
  if (organisations) {
    const pb::Node* holder = holder_of(shown.serial);
    const std::string fingerprint = to_hex(shown.serial);
    if (holder == nullptr)
      return refused(
          Refusal::revoked,
          fmt::format("the certificate of {} is signed by your organisation, and no node "
                      "in force has it: `datacloud node add NAME --role ROLE "
                      "--fingerprint {}`",
                      shown.identity.name, fingerprint));
    peer.node = holder->name();
  } else if (shown.identity.roles.has(NodeRole::daemon)) {
    // Made with the service key, by another daemon of the cloud: no node ever has this role.
    // A command on the machine of one that stands by shows it with the role admin.
    peer.roles = NodeRole::daemon;
    if (shown.identity.roles.has(NodeRole::admin)) peer.roles.add(NodeRole::admin);
    peer.serial = shown.serial;
    peer.certificate_end_ns = shown.not_after_ns;
    return success();
  }
  peer.serial = shown.serial;
  peer.certificate_end_ns = shown.not_after_ns;
  TRY(const pb::Node* node, node_in_force(peer, reason));
  peer.roles = roles_of(*node);
  if (organisations || peer.roles == shown.identity.roles) return success();
  return refused(Refusal::wrong_role,
                 fmt::format("node {} has the role {}, and its certificate says {}", node->name(),
                             peer.roles.text(), shown.identity.roles.text()));
}

// The session's record of a peer over TLS, or why it gets none.
result<void> MetadataService::identify_node(const pb::HelloRequest& hello,
                                            const PeerCredentials& peer, pb::Session& record) {
  if (peer.node.empty())
    return failure(not_permitted("with an invitation a machine can join, and nothing else"));
  if (peer.roles.has(NodeRole::daemon)) {
    if (hello.kind() != pb::CLIENT_TOOL)
      return failure(not_permitted("a daemon of the cloud mounts nothing as such"));
    record.clear_pid();
    record.set_node(peer.node);
    record.set_address(peer.address);
    return success();
  }
  Refusal reason{};
  TRY(const pb::Node* node, node_in_force(peer, reason));
  const bool mounts = peer.roles.has(NodeRole::mount) || peer.roles.has(NodeRole::mount_ro);
  if (hello.kind() != pb::CLIENT_TOOL && !mounts)
    return failure(not_permitted(
        fmt::format("node {} may not mount: its role is {}", node->name(), peer.roles.text())));
  const auto limit = get_inode(store_.begin(), node->root());
  if (node->root() != 0 && (!limit || limit.value().nlink() == 0))
    return failure(
        not_permitted(fmt::format("the directory that node {} is limited to was removed"
                                  "; `datacloud node revoke {}`, and add it anew",
                                  node->name(), node->name())));
  const std::string& secret = hello.session().secret();
  if (hello.kind() != pb::CLIENT_TOOL &&
      (secret.size() < kSecretBytesMin || secret.size() > kSecretBytesMax)) {
    return failure(Errc::invalid,
                   "a session over TLS needs a secret of 16 to 64 bytes; install "
                   "the same version on both sides");
  }
  record.clear_pid();
  record.clear_process_start();
  record.clear_boot_id();
  if (!secret.empty()) record.set_secret(sha256(secret));
  record.set_node(node->name());
  record.set_address(peer.address);
  for (const auto& role : node->roles()) record.add_roles(role);
  if (node->invitation().sealed().empty()) return success();
  // It has come with its own certificate: what was kept for its joining is not needed any more.
  pb::Node joined = *node;
  joined.mutable_invitation()->clear_sealed();
  Transaction txn = store_.begin();
  nodes_.put(txn, std::move(joined));
  return committer_.apply(std::move(txn));
}

result<pb::Reply> MetadataService::certify(Transaction& txn, pb::Node node, ByteView request,
                                           ByteView used) {
  if (!deps_.authority) return failure(Errc::unsupported, "this daemon has no authority");
  TRY(const NodeKey key, read_certificate_request(request));
  NodeIdentity identity{deps_.cloud.uuid(), node.name(), roles_of(node)};
  const int64_t now = wall_now_ns();
  const auto issued = deps_.authority->issue(
      key, identity, now, static_cast<int64_t>(deps_.config.certificate_ms) * kNsPerMs);
  add_certificate(node, issued.serial, issued.not_after_ns, now, used);
  pb::Reply reply;
  auto* certificate = reply.mutable_certificate();
  certificate->set_certificate(std::string(as_text(issued.der)));
  certificate->set_authority(std::string(as_text(deps_.authority->certificate())));
  certificate->set_not_after_ns(issued.not_after_ns);
  certificate->set_sealed(node.invitation().sealed());
  nodes_.put(txn, std::move(node));
  return reply;
}

// Answered on the connection: there is no session. The same machine may ask again until it has
// connected as a node, since an answer can get lost.
void MetadataService::join(const CallPtr& call) {
  const auto& connection = call->connection;
  const pb::Node* invited = nodes_.by_invitation(connection->peer().invitation);
  if (invited == nullptr)
    return refuse(call, not_permitted("only a machine with a line of `datacloud node add` joins"));
  const auto& request = call->request.join().request();
  const auto key = read_certificate_request(as_bytes(request));
  if (!key) return refuse(call, key.error());
  const std::string hash(as_text(key.value().hash()));
  if (const auto problem = line_problem(*invited, hash); !problem.empty())
    return refuse(call, not_permitted(problem + kNewLine));
  pb::Node node = *invited;
  const int64_t now = wall_now_ns();
  if (node.invitation().used_ns() == 0) {
    node.set_joined_ns(now);
    node.mutable_invitation()->set_used_ns(now);
    node.mutable_invitation()->set_node_key_hash(hash);
    node.set_state(pb::NODE_JOINED);
    spdlog::info("node {} ({}) has joined from {}", node.name(), roles_of(node).text(),
                 connection->peer().address);
  }
  Transaction txn = store_.begin();
  auto reply = certify(txn, std::move(node), as_bytes(request), {});
  if (!reply) return refuse(call, reply.error());
  if (auto applied = committer_.apply(std::move(txn)); !applied)
    return refuse(call, applied.error());
  committer_.when_durable([connection, reply = std::move(reply.value())] {
    connection->reply(reply);  // id 0
  });
}

Answer MetadataService::renew_certificate(const CallPtr& call) {
  const PeerCredentials& peer = call->connection->peer();
  if (!peer.remote())
    return failure(Errc::invalid, "a process of the daemon's machine has no certificate to renew");
  Refusal reason{};
  TRY(const pb::Node* node, node_in_force(peer, reason));
  if (peer.serial.size() == kFingerprintBytes)
    return failure(Errc::invalid,
                   "this node's certificate is your organisation's: get a new one there, "
                   "and add it with `datacloud node add " +
                       node->name() + " --certificate FILE`");
  Transaction txn = store_.begin();
  TRY(auto reply, certify(txn, *node, as_bytes(call->request.renew().request()), peer.serial));
  reply.mutable_certificate()->clear_sealed();
  TRY(committer_.apply(std::move(txn)));
  answer_when_durable(call, std::move(reply));
  return later();
}

result<void> MetadataService::add_node(Transaction& txn, const pb::NodeRequest& request) {
  if (!deps_.authority)
    return failure(Errc::unsupported, "this daemon has no authority to certify nodes with");
  if (!valid_node_name(request.name()))
    return failure(Errc::invalid, fmt::format("\"{}\" cannot name a node: 1 to 64 letters, digits, "
                                              "'-', '_' or '.'",
                                              request.name().substr(0, 100)));
  TRY(const auto roles,
      NodeRoles::parse(std::vector<std::string>(request.roles().begin(), request.roles().end())));
  if (roles.has(NodeRole::daemon))
    return failure(Errc::invalid, "a daemon is made by giving it the service key, not by joining");
  if (request.sealed().empty() && request.key_hash().size() == kFingerprintBytes)
    return add_certified_node(txn, request, roles);
  if (request.key_hash().size() != 32 || request.sealed().empty() ||
      request.sealed().size() > kSealedBundleBytesMax) {
    return failure(Errc::invalid,
                   "the invitation is not whole; install the same version on both "
                   "sides");
  }
  if (request.valid_ms() == 0 || request.valid_ms() > kLineValidMsMax)
    return failure(Errc::invalid, "a line can be valid for at most 30 days");
  const pb::Node* before = nodes_.find(request.name());
  if (before != nullptr && before->state() == pb::NODE_JOINED)
    return failure(Errc::exists, fmt::format("node {} has joined already; another name, or "
                                             "`datacloud node revoke {}` first",
                                             request.name(), request.name()));
  if (before == nullptr && nodes_.all().size() >= kNodesMax)
    return failure(Errc::unavailable, fmt::format("there are {} nodes already", kNodesMax));
  TRY(const InodeId limit, limit_for(request, roles));
  pb::Node node;
  node.set_name(request.name());
  node.set_root(limit);
  for (const auto& name : roles.names()) node.add_roles(name);
  node.set_created_ns(wall_now_ns());
  auto* line = node.mutable_invitation();
  line->set_key_hash(request.key_hash());
  line->set_sealed(request.sealed());
  line->set_expires_ns(wall_now_ns() + static_cast<int64_t>(request.valid_ms()) * kNsPerMs);
  spdlog::info("node {} ({}) may join until {}", node.name(), roles.text(),
               date(line->expires_ns()));
  nodes_.put(txn, std::move(node));
  return success();
}

result<void> MetadataService::revoke_node(Transaction& txn, const std::string& name) {
  const pb::Node* known = nodes_.find(name);
  if (known == nullptr)
    return failure(Errc::not_found, fmt::format("there is no node \"{}\"; `datacloud node list` "
                                                "shows them",
                                                name.substr(0, 100)));
  if (known->state() == pb::NODE_REVOKED) return success();
  pb::Node node = *known;
  node.set_state(pb::NODE_REVOKED);
  node.set_revoked_ns(wall_now_ns());
  node.clear_certificates();
  node.mutable_invitation()->clear_sealed();
  nodes_.put(txn, std::move(node));
  spdlog::warn("node {} is revoked", name);
  return success();
}

void MetadataService::end_sessions_of(const std::string& node, const std::string& why) {
  std::vector<SessionId> ids;
  for (const auto& [id, session] : sessions_.all())
    if (session->record.node() == node) ids.push_back(id);
  for (const SessionId id : ids) {
    const auto connection = sessions_.find(id)->connection;
    end_session(id, why, false);
    if (connection) connection->close();
  }
}

// Certificates that have run out while their connection was open.
void MetadataService::end_expired() {
  const int64_t now = wall_now_ns();
  std::vector<std::shared_ptr<RpcConnection>> over;
  for (const auto& [id, session] : sessions_.all()) {
    if (!session->connection) continue;
    const auto& peer = session->connection->peer();
    if (peer.remote() && now > peer.certificate_end_ns) over.push_back(session->connection);
  }
  for (const auto& connection : over) {
    spdlog::warn("the certificate of {} has expired: its connection ends",
                 connection->peer().describe());
    connection->close();
  }
}

void MetadataService::list_nodes(const std::string& only, pb::NodeReply& reply) {
  for (const auto& [name, node] : nodes_.all()) {
    if (!only.empty() && name != only) continue;
    auto* listed = reply.add_nodes();
    *listed->mutable_node() = node;
    listed->mutable_node()->mutable_invitation()->clear_sealed();
    listed->set_directory(limit_path(node.root()));
    for (const auto& [id, session] : sessions_.all()) {
      if (session->record.node() != name || !session->connection) continue;
      listed->set_connected(true);
      listed->set_address(session->record.address());
      listed->set_version(session->record.version());
      listed->set_protocol(session->record.protocol());
      if (!session->tool()) listed->set_round_trip_us(session->stats.round_trip_us());
    }
  }
  if (deps_.authority) {
    reply.set_authority_hash(
        std::string(as_text(certificate_key_hash(deps_.authority->certificate()))));
  }
  for (const auto& address : deps_.config.listen)
    if (is_tls_address(address)) reply.add_listen(address);
}

Answer MetadataService::node(const CallPtr& call, const pb::NodeRequest& request) {
  Transaction txn = store_.begin();
  if (request.action() == pb::NODE_ADD) {
    TRY(add_node(txn, request));
  } else if (request.action() == pb::NODE_REVOKE) {
    TRY(revoke_node(txn, request.name()));
  }
  const bool changes = !txn.empty();
  if (changes) {
    TRY(committer_.apply(std::move(txn)));
  }
  if (request.action() == pb::NODE_REVOKE) {
    end_sessions_of(request.name(), "its node was revoked");
    forget_limit_of(request.name());
  }
  pb::AdminReply admin;
  list_nodes(request.name(), *admin.mutable_node());
  if (request.action() == pb::NODE_LIST && !request.name().empty() &&
      admin.node().nodes().empty()) {
    return failure(Errc::not_found, fmt::format("there is no node \"{}\"; `datacloud node list` "
                                                "shows them",
                                                request.name().substr(0, 100)));
  }
  if (!changes) return std::optional(wrapped(admin));
  answer_when_durable(call, wrapped(admin));
  return later();
}

// Nothing: the request may be run.
std::optional<Error> MetadataService::forbidden(const Call& call, Access access) const {
  const PeerCredentials& peer = call.connection->peer();
  if (!peer.remote()) return std::nullopt;
  const auto& roles = peer.roles;
  const bool admin = roles.has(NodeRole::admin);
  const bool changes = roles.has(NodeRole::mount);
  bool permitted = false;
  switch (access) {
    case Access::session:
    case Access::by_admin:
      permitted = true;
      break;
    case Access::read:
      permitted = changes || admin || roles.has(NodeRole::mount_ro);
      break;
    case Access::write:
      if (!changes)
        return Error::posix(EROFS, fmt::format("node {} may change nothing: its role is {}",
                                               peer.node, roles.text()));
      permitted = true;
      break;
    case Access::observe:
      permitted = admin || roles.has(NodeRole::auditor);
      break;
    case Access::admin:
      permitted = admin;
  }
  if (permitted) return std::nullopt;
  return not_permitted(
      fmt::format("node {} may not ask for this: its role is {}", peer.node, roles.text()));
}

std::optional<Error> MetadataService::forbidden(const Call& call,
                                                const pb::AdminRequest& request) const {
  switch (request.op_case()) {
    case pb::AdminRequest::kSiteKey:  // of mounts
      return forbidden(call, Access::read);
    case pb::AdminRequest::kAuditExport:
    case pb::AdminRequest::kAuditStanding:
    case pb::AdminRequest::kAuditLog:
      return forbidden(call, Access::observe);
    case pb::AdminRequest::kJournal:
      return forbidden(
          call, request.journal().action() == pb::JOURNAL_STATUS ? Access::observe : Access::admin);
    case pb::AdminRequest::kLeader:
      if (request.leader().action() != pb::LEADER_REPORT)
        return forbidden(
            call, request.leader().action() == pb::LEADER_SHOW ? Access::observe : Access::admin);
      // Processes of this machine: whoever reads the service key, as any other of its daemons.
      if (call.connection->peer().roles.has(NodeRole::daemon) ||
          (!call.connection->peer().remote() && !forbidden(call, Access::admin))) {
        return std::nullopt;
      }
      return not_permitted("only a daemon of the cloud stands by");
    case pb::AdminRequest::kNode:  // the server of a site has to know who was revoked
      if (request.node().action() == pb::NODE_LIST &&
          call.connection->peer().roles.has(NodeRole::site)) {
        return std::nullopt;
      }
      return forbidden(call, Access::admin);
    default:
      return forbidden(call, Access::admin);
  }
}

}  // namespace datacloud
