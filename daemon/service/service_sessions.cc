// Sessions: hello, resume, keepalive, id grants, and how a session ends.
//
// A session ends by goodbye, when its local process is gone, or when its lease has run out. Its end
// drops its leases and revokes its ids in one durable transaction; what it left at the sites is
// then found by the listing scrub. After a daemon start, requests that leases protect wait until
// every previous session has resumed or ended.
#include <fmt/format.h>

#include <algorithm>

#include "common/base/log.h"
#include "common/rpc/protocol_range.h"
#include "daemon/maintenance/maintenance.h"
#include "daemon/metadata/counters.h"
#include "daemon/service/service.h"

namespace datacloud {
namespace {

constexpr auto kTick = seconds(1);
// A killed process closes its sockets a moment before it is gone.
constexpr auto kRecheck = milliseconds(50);
constexpr int kTrafficRowsMax = 1024;
constexpr auto kForegroundSpanMax = seconds(10);
constexpr int kHealthRowsMax = 256;
constexpr size_t kReportTextMax = 1024;

// A node's mount is known by its secret, a local one by its process.
bool same_client(const pb::Session& a, const pb::Session& b) {
  if (a.node() != b.node()) return false;
  if (!a.node().empty()) return !a.secret().empty() && a.secret() == b.secret();
  return a.pid() == b.pid() && a.process_start() == b.process_start() && a.boot_id() == b.boot_id();
}

}  // namespace

result<void> MetadataService::start() {
  sequence_at_start_ = store_.sequence();
  Transaction txn = store_.begin();
  TRY(start_count_, read_counter(txn, "start", 0));
  put_counter(txn, "start", ++start_count_);
  TRY(load_features(txn));
  TRY(sessions_.open(txn));
  TRY(nodes_.open(txn));
  TRY(inode_ids_.open(txn));
  TRY(const bool had_ids, ranges_.open(txn));
  TRY(maintenance_->open(txn));
  if (had_ids) maintenance_->make_garbage_scrub_due(txn);
  for (auto& [id, session] : sessions_.all()) {
    awaited_.insert(id);
    renew(*session);
  }
  sessions_at_start_ = sessions_.all().size();
  TRY(committer_.apply(std::move(txn)));
  for (const SessionId id : std::set<SessionId>(awaited_)) end_if_over(id);
  TRY(store_.wait_durable(store_.sequence()));
  if (awaited_.empty()) {
    maintenance_->orphans_may_go();
  } else {
    spdlog::info("waiting for {} mounts that were connected before the restart", awaited_.size());
  }
  maintenance_->start();
  loop_.after(kTick, [this] { tick(); });
  return success();
}

void MetadataService::tick() {
  std::vector<SessionId> ids;
  for (const auto& [id, session] : sessions_.all()) ids.push_back(id);
  for (const SessionId id : ids) end_if_over(id);
  end_expired();
  maintenance_->tick();
  pump();
  loop_.after(kTick, [this] { tick(); });
}

bool MetadataService::in_grace(const Call& call) const {
  if (awaited_.empty()) return false;
  return awaited_.size() > 1 || *awaited_.begin() != call.session;
}

void MetadataService::run_held_back() {
  if (!awaited_.empty()) return;
  maintenance_->orphans_may_go();
  for (const auto& call : std::exchange(held_back_, {})) dispatch(call);
}

void MetadataService::renew(SessionState& session) {
  session.heard = loop_.now();
  // Ten per cent more than the mount is told: it counts from earlier, on another clock.
  const uint64_t lease_ms = deps_.config.lease_ms;
  session.lease_end = session.heard + milliseconds(lease_ms + lease_ms / 10);
}

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
  auto* hello = reply.mutable_hello();
  hello->set_session(session.id());
  hello->set_start(start_count_);
  hello->set_lease_ms(deps_.config.lease_ms);
  *hello->mutable_cloud() = deps_.cloud;
  *hello->mutable_features() = feature_record_;
  if (!session.tool()) {
    hello->set_name_key(std::string(as_text(deps_.name_key)));
    for (const auto& [site, key] : deps_.audit_keys) {
      auto* out = hello->add_audit_keys();
      out->set_site(site);
      out->set_key(std::string(as_text(key.view())));
    }
  }
  hello->set_read_only(call.connection->peer().remote() &&
                       !call.connection->peer().roles.has(NodeRole::mount));
  hello->set_root(limit_of(call));
  hello->set_protocol(session.record.protocol());
  hello->set_resumed(resumed);
  hello->set_ids_revoked(resumed && session.ids_revoked);
  return reply;
}

void MetadataService::hello(const CallPtr& call) {
  const auto& hello = call->request.hello();
  const auto& connection = call->connection;
  const auto protocol = common_protocol(own_protocols(), protocols_of(hello));
  if (!protocol) {
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
  for (const auto clear : {&pb::Session::clear_node, &pb::Session::clear_address,
                           &pb::Session::clear_roles, &pb::Session::clear_secret}) {
    (record.*clear)();
  }
  record.set_protocol(*protocol);
  if (!connection->peer().remote()) {
    deps_.processes.identify(connection->peer().pid, record);
  } else if (auto known = identify_node(hello, connection->peer(), record); !known) {
    return refuse(call, known.error());
  }
  if (hello.kind() == pb::CLIENT_TOOL) {
    auto tool = sessions_.add_tool(std::move(record));
    if (!tool) return refuse(call, tool.error());
    bind(*tool.value(), connection);
    return connection->reply(hello_reply(*call, *tool.value(), false));
  }
  if (auto lacking = lacks_feature(record)) return refuse(call, *lacking);
  sessions_.count_hello();
  if (SessionState* session = sessions_.find(record.id()); session != nullptr && !session->tool() &&
                                                           same_client(session->record, record) &&
                                                           resume(*session, *call)) {
    return;
  }
  Transaction txn = store_.begin();
  auto session = sessions_.add_mount(txn, std::move(record), deps_.config.sessions_max);
  if (!session) return refuse(call, session.error());
  if (auto committed = committer_.apply(std::move(txn)); !committed)
    return refuse(call, committed.error());
  bind(*session.value(), connection);
  renew(*session.value());
  spdlog::info("session {}: {} connected", session.value()->id(), session.value()->describe());
  committer_.when_durable([this, call, id = session.value()->id()] {
    SessionState* still = sessions_.find(id);
    if (still != nullptr) call->connection->reply(hello_reply(*call, *still, false));
  });
}

// False: its leases exceed the limit now, or it is not of these records; the session has ended.
bool MetadataService::resume(SessionState& session, const Call& call) {
  const auto unanswered = leases_.recalls_of(session.id());
  if (!session.resumed) {
    // What it caches and what it may have committed is of a history that is gone.
    if (call.request.hello().sequence() > sequence_at_start_) {
      end_session(session.id(), "it has seen newer records than these: they were restored", false);
      return false;
    }
    for (const auto& held : call.request.hello().leases()) {
      if (!may_resume_with(call, session.id(), held.ino())) continue;
      if (!leases_.adopt(session.id(), held)) {
        end_session(session.id(), "its leases exceed daemon.leases_max", false);
        return false;
      }
      // The daemon may have died between another session's change and its recall.
      if (sessions_at_start_ > 1 && held.mode() == pb::LEASE_READ) {
        leases_.recall(session.id(), held.ino(), pb::LEASE_NONE);
      }
    }
    session.resumed = true;
  }
  session.record.set_address(call.connection->peer().address);
  session.record.set_protocol(
      *common_protocol(own_protocols(), protocols_of(call.request.hello())));
  session.record.set_version(call.request.hello().session().version());
  bind(session, call.connection);
  spdlog::info("session {}: {} is back", session.id(), session.describe());
  call.connection->reply(hello_reply(call, session, true));
  for (const auto& recall : unanswered) send_recall(recall);
  if (awaited_.erase(session.id()) > 0) run_held_back();
  return true;
}

void MetadataService::on_disconnect(std::shared_ptr<RpcConnection> connection) {
  SessionState* session = sessions_.find(connection->session);
  connection->session = 0;
  if (session == nullptr || session->connection != connection) return;
  session->connection.reset();
  const SessionId id = session->id();
  if (session->tool()) {
    Transaction nothing = store_.begin();
    return sessions_.erase(nothing, id);
  }
  end_if_over(id);
  loop_.after(kRecheck, [this, id] {
    end_if_over(id);
    pump();
  });
  pump();
}

void MetadataService::end_if_over(SessionId id) {
  SessionState* session = sessions_.find(id);
  if (session == nullptr || session->tool()) return;
  // Processes of other machines cannot be seen from here.
  const bool local = session->record.node().empty();
  if (local && !session->connection && deps_.processes.gone(session->record)) {
    end_session(id, "its process is gone", false);
  } else if (loop_.now() > session->lease_end) {
    const size_t unanswered = leases_.recalls_unanswered(id);
    end_session(id,
                unanswered == 0
                    ? "its lease has run out"
                    : fmt::format("its lease has run out with {} recalls unanswered", unanswered),
                false);
  }
}

void MetadataService::end_session(SessionId id, const std::string& why, bool clean) {
  SessionState* session = sessions_.find(id);
  if (session == nullptr) return;
  spdlog::info("session {}: {} has ended: {}", id, session->describe(), why);
  const auto connection = session->connection;
  Transaction txn = store_.begin();
  const bool had_ids = ranges_.revoke_all(txn, id);
  const bool scrub = (had_ids && !clean) || session->abandoned;
  if (scrub) maintenance_->make_garbage_scrub_due(txn);
  sessions_.erase(txn, id);
  leases_.end_session(id);
  if (!txn.empty() && !committer_.apply(std::move(txn))) return;
  if (connection) {
    connection->session = 0;
    if (!clean) connection->close();
  }
  if (scrub) maintenance_->look_for_garbage();
  if (awaited_.erase(id) > 0) run_held_back();
}

// A mount that owes answers to recalls shows that it works on one by answering another, by moving
// data or by failing to. Without any sign it must not hold up the others for as long as its
// keepalives come: its lease is left to run out, once for everything it holds.
bool MetadataService::answers_recalls(SessionState& session, const pb::KeepaliveRequest& report) {
  const bool works = std::any_of(report.traffic().begin(), report.traffic().end(),
                                 [](const pb::SiteTraffic& row) {
                                   return row.bytes_read() + row.bytes_written() > 0;
                                 }) ||
                     report.stats().flush_failures() > session.stats.flush_failures();
  if (session.recalled_at == MonotonicTime{}) return true;
  if (works) session.recalled_at = loop_.now();
  return loop_.now() - session.recalled_at <= milliseconds(deps_.config.lease_ms / 4);
}

Answer MetadataService::keepalive(const CallPtr& call) {
  const auto& report = call->request.keepalive();
  SessionState& session = session_of(*call);
  const bool renewed = answers_recalls(session, report);
  // Growth is counted once: a copy sent again has an id seen before.
  if (call->request.id() > session.last_keepalive) {
    session.last_keepalive = call->request.id();
    const Duration span = std::min<Duration>(loop_.now() - session.heard, kForegroundSpanMax);
    int rows = 0;
    for (const auto& row : report.traffic()) {
      if (++rows > kTrafficRowsMax || deps_.sites.find(row.site()) == nullptr ||
          row.purpose() >= static_cast<uint32_t>(kPurposeCount)) {
        continue;
      }
      auto& sum = mount_traffic_[{row.site(), row.purpose()}];
      sum.set_bytes_read(sum.bytes_read() + row.bytes_read());
      sum.set_bytes_written(sum.bytes_written() + row.bytes_written());
      sum.set_operations(sum.operations() + row.operations());
      session.bytes_read += row.bytes_read();
      session.bytes_written += row.bytes_written();
      maintenance_->moved_by_mount(row.site(), row.bytes_read() + row.bytes_written(),
                                   row.operations(), span);
    }
  }
  session.stats = report.stats();
  if (session.stats.last_failure().size() > kReportTextMax) {
    session.stats.mutable_last_failure()->resize(kReportTextMax);
  }
  session.health.clear();
  for (const auto& row : report.health()) {
    if (session.health.size() >= kHealthRowsMax) break;
    session.health.push_back(row);
    auto& reason = *session.health.back().mutable_reason();
    if (reason.size() > kReportTextMax) reason.resize(kReportTextMax);
  }
  if (renewed) {
    renew(session);
  } else {
    session.heard = loop_.now();
  }
  pb::Reply reply;
  maintenance_->add_site_infos(reply.mutable_keepalive()->mutable_sites());
  reply.mutable_keepalive()->set_lease_ms(renewed ? deps_.config.lease_ms : 0);
  *reply.mutable_keepalive()->mutable_features() = feature_record_;
  return std::optional(std::move(reply));
}

Answer MetadataService::goodbye(const CallPtr& call) {
  const SessionId id = call->session;
  if (session_of(*call).tool()) return std::optional(pb::Reply());
  end_session(id, "goodbye", true);
  answer_when_durable(call, pb::Reply());
  return later();
}

// Not stored: executed twice, it only wastes ids; and a stored answer could name ids that were
// revoked meanwhile.
Answer MetadataService::grant(const CallPtr& call) {
  const auto& request = call->request.grant();
  if (request.kind() < 1 || request.kind() > 3) {
    return failure(Errc::invalid, fmt::format("there are no ids of kind {}", request.kind()));
  }
  Transaction txn = store_.begin();
  TRY(const IdRange range,
      ranges_.grant(txn, call->session, static_cast<IdKind>(request.kind()), request.count()));
  TRY(committer_.apply(std::move(txn)));
  pb::Reply reply;
  reply.mutable_grant()->set_first(range.first);
  reply.mutable_grant()->set_count(static_cast<uint32_t>(range.count));
  answer_when_durable(call, std::move(reply));
  return later();
}

}  // namespace datacloud
