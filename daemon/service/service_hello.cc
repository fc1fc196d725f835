// Hello: new sessions, those that are resumed, and those whose mounts come back after their end.
//
// A mount is known by the secret that it has drawn, wherever it connects from. While its session
// lasts it gets that back. When the lease has run out meanwhile it gets a new session, without the
// leases, which inherits the stored replies: so its requests that were under way are executed once.
#include <fmt/format.h>

#include <algorithm>

#include "common/base/log.h"
#include "common/crypto/keys.h"
#include "common/rpc/protocol_range.h"
#include "common/rpc/protocol_versions.h"
#include "daemon/records/cloud_features.h"
#include "daemon/service/service.h"

namespace datacloud {
namespace {

constexpr size_t kSecretMin = 16, kSecretMax = 64;  // bytes
constexpr int kUnusedRangesMax = 65536;             // of inode numbers, in one hello

// What both speak; 0: nothing.
uint32_t spoken(const pb::HelloRequest& hello) {
  return common_protocol(own_protocols(), protocols_of(hello)).value_or(0);
}

}  // namespace

void MetadataService::bind(SessionState& session,
                           const std::shared_ptr<RpcConnection>& connection) {
  if (session.connection && session.connection != connection) {
    session.connection->session = 0;
    session.connection->close();
  }
  session.connection = connection;
  connection->session = session.id();
}

pb::Reply MetadataService::hello_reply(const Call& call, SessionState& session, bool resumed) {
  renew(session);
  pb::Reply reply;
  reply.set_id(call.request.id());
  reply.set_sequence(store_.sequence());
  reply.set_committed(durable_);
  auto* hello = reply.mutable_hello();
  hello->set_session(session.id());
  hello->set_start(start_count_);
  hello->set_protocol(spoken(call.request.hello()));
  hello->set_lease_ms(deps_.config.lease_ms);
  *hello->mutable_cloud() = deps_.cloud;
  *hello->mutable_features() = features_of_mounts(feature_record_);
  if (!session.tool()) {
    hello->set_name_key(std::string(as_text(deps_.name_key)));
    for (const auto& [site, key] : deps_.audit_keys) {
      auto* out = hello->add_audit_keys();
      out->set_site(site);
      out->set_key(std::string(as_text(key.view())));
    }
  }
  hello->set_journal_position(committed_position());
  add_places(call, hello->mutable_daemons());
  if (deps_.journal && deps_.leader_key)
    hello->set_leader_key(std::string(as_text(deps_.leader_key->view())));
  hello->set_read_only(call.connection->peer().remote() &&
                       !call.connection->peer().roles.has(NodeRole::mount));
  hello->set_root(limit_of(call));
  hello->set_resumed(resumed);
  return reply;
}

// Who says hello: what the connection shows, and the hash of the mount's secret.
result<void> MetadataService::identify(const CallPtr& call, pb::Session& record) {
  const auto& hello = call->request.hello();
  for (const auto clear : {&pb::Session::clear_node, &pb::Session::clear_address,
                           &pb::Session::clear_roles, &pb::Session::clear_secret}) {
    (record.*clear)();
  }
  record.set_protocol(spoken(hello));
  const auto& peer = call->connection->peer();
  if (peer.remote()) return identify_node(hello, peer, record);
  deps_.processes.identify(peer.pid, record);
  const std::string& secret = hello.session().secret();
  if (secret.empty() || hello.kind() == pb::CLIENT_TOOL) return success();
  if (secret.size() < kSecretMin || secret.size() > kSecretMax)
    return failure(Errc::invalid, "the secret of a session has 16 to 64 bytes");
  record.set_secret(std::string(as_text(hkdf_sha256(as_bytes(secret), "session secret", 32))));
  return success();
}

void MetadataService::hello(const CallPtr& call) {
  const auto& hello = call->request.hello();
  const auto& connection = call->connection;
  if (spoken(hello) == 0) {
    const Error none = no_common_protocol({DATACLOUD_VERSION, own_protocols()},
                                          {hello.session().version(), protocols_of(hello)});
    spdlog::warn("{}: {}", connection->peer().describe(), none.text());
    return refuse(call, none);
  }
  const SessionState* bound = sessions_.find(connection->session);
  if (bound != nullptr && bound->connection == connection) {
    return refuse(call, Error(Errc::invalid, "this connection has said hello already"));
  }
  pb::Session record = hello.session();
  if (auto known = identify(call, record); !known) return refuse(call, known.error());
  if (hello.kind() == pb::CLIENT_TOOL) {
    auto tool = sessions_.add_tool(std::move(record));
    if (!tool) return refuse(call, tool.error());
    bind(*tool.value(), connection);
    return connection->reply(hello_reply(*call, *tool.value(), false));
  }
  if (auto lacking = lacks_feature(record)) return refuse(call, *lacking);
  if (!knows_history(call)) return;
  sessions_.count_hello();
  SessionState* session = sessions_.find(record.id());
  if (session != nullptr && (session->tool() || !same_client(session->record, record)))
    session = nullptr;
  // The answer that told of its newest session may have been lost.
  if (session == nullptr) session = sessions_.find_client(record);
  if (session != nullptr && resume(*session, *call, record)) return;
  new_session(call, std::move(record));
}

// False: its leases exceed the limit now, or it is not of these records; the session has ended.
bool MetadataService::resume(SessionState& session, const Call& call, const pb::Session& now) {
  const auto unanswered = leases_.recalls_of(session.id());
  const auto lock_recalls = locks_.recalls_of(session.id());
  const bool asked = call.request.hello().session().id() != 0;
  if (!session.resumed && !take_back(session, call)) return false;
  // Another address, another process that the mount runs in, another version of both programs.
  pb::Session record = now;
  record.set_id(session.id());
  if (record.secret().empty()) record.set_secret(session.record.secret());
  if (record.SerializeAsString() != session.record.SerializeAsString()) {
    session.record = std::move(record);
    Transaction txn = store_.begin();
    sessions_.update(txn, session);
    if (!committer_.apply(std::move(txn))) return true;  // that ends the daemon
  }
  bind(session, call.connection);
  spdlog::info("session {}: {} is back", session.id(), session.describe());
  send_out([connection = call.connection, reply = hello_reply(call, session, asked)] {
    connection->reply(reply);
  });
  for (const auto& recall : unanswered) send_recall(recall);
  for (const auto& recall : lock_recalls) send_lock_recall(recall);
  if (!session.resending && awaited_.erase(session.id()) > 0) run_held_back();
  return true;
}

// A session from before this start, with the leases that its mount presents.
bool MetadataService::take_back(SessionState& session, const Call& call) {
  const auto& hello = call.request.hello();
  // What it caches and what it may have committed is of a history that is gone.
  if (hello.sequence() > sequence_at_start_) {
    end_session(session.id(), "it has seen newer records than these: they were restored", false);
    return false;
  }
  for (const auto& held : hello.leases()) {
    if (!may_resume_with(call, session.id(), held.ino())) continue;
    if (!leases_.adopt(session.id(), held)) {
      end_session(session.id(), "its leases exceed daemon.leases_max", false, Comeback::may);
      return false;
    }
    // The daemon may have died between another session's change and its recall.
    if (sessions_at_start_ > 1 && held.mode() == pb::LEASE_READ) {
      leases_.recall(session.id(), held.ino(), pb::LEASE_NONE);
    }
  }
  adopt_locks(call, session.id());
  int ranges = 0;
  for (const auto& unused : hello.inodes()) {
    if (++ranges > kUnusedRangesMax) break;
    ranges_.inodes_unused(session.id(), {unused.first(), unused.count()});
  }
  session.resumed = true;
  session.resending = spoken(hello) >= kProtocolRejoin;
  return true;
}

// What the mount has kept has arrived: the others may go on.
void MetadataService::resent(SessionState& session) {
  session.resending = false;
  if (awaited_.erase(session.id()) > 0) run_held_back();
}

bool MetadataService::may_rejoin(const pb::HelloRequest& hello, const pb::Session& record) const {
  const RetiredSession* retired = sessions_.retired(record.id());
  return retired != nullptr && spoken(hello) >= kProtocolRejoin &&
         same_client(retired->record, record) &&
         !(retired->of_before && hello.sequence() > sequence_at_start_);
}

void MetadataService::new_session(const CallPtr& call, pb::Session record) {
  const auto& hello = call->request.hello();
  const SessionId former = record.id();
  const bool rejoins = may_rejoin(hello, record);
  Transaction txn = store_.begin();
  auto session = sessions_.add_mount(txn, std::move(record), deps_.config.sessions_max);
  if (!session) return refuse(call, session.error());
  const SessionId id = session.value()->id();
  if (rejoins) {
    const bool of_before = sessions_.retired(former)->of_before;
    if (auto known = sessions_.inherit(txn, former, *session.value()); !known)
      return refuse(call, known.error());
    ranges_.move_inodes(txn, former, id);
    int ranges = 0;
    for (const auto& unused : hello.inodes()) {
      if (!of_before || ++ranges > kUnusedRangesMax) break;
      ranges_.inodes_unused(id, {unused.first(), unused.count()});
    }
  }
  if (auto committed = committer_.apply(std::move(txn)); !committed)
    return refuse(call, committed.error());
  bind(*session.value(), call->connection);
  renew(*session.value());
  spdlog::info("session {}: {} connected{}", id, session.value()->describe(),
               rejoins ? fmt::format(", as session {} before", former) : "");
  when_durable([this, call, id, rejoins] {
    send_out([this, call, id, rejoins] {
      SessionState* still = sessions_.find(id);
      if (still != nullptr) call->connection->reply(hello_reply(*call, *still, rejoins));
    });
  });
}

}  // namespace datacloud
