// Sessions: the start with those of the previous run, keepalives, id grants, and how a session
// ends.
//
// A session ends by goodbye, when its lease has run out, or, as a hint that saves the wait, when
// its process was seen here and is gone. Its end drops its leases and revokes its ids in one
// transaction; what it left at the sites is then found by the listing scrub. After a daemon start,
// requests that leases protect wait until every previous session has resumed or ended.
#include <fmt/format.h>

#include <algorithm>

#include "common/base/log.h"
#include "common/rpc/protocol_versions.h"
#include "daemon/maintenance/maintenance.h"
#include "daemon/metadata/counters.h"
#include "daemon/metadata/journal_records.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/cloud_features.h"
#include "daemon/service/service.h"

namespace datacloud {
namespace {

constexpr auto kTick = seconds(1);
constexpr auto kStartDurable = seconds(60);  // what the journal's sites may take at the start
// A killed process closes its sockets a moment before it is gone.
constexpr auto kRecheck = milliseconds(50);
constexpr int kTrafficRowsMax = 1024;
constexpr auto kForegroundSpanMax = seconds(10);
constexpr int kHealthRowsMax = 256;
constexpr size_t kReportTextMax = 1024;

}  // namespace

result<void> MetadataService::start() {
  sequence_at_start_ = store_.sequence();
  Transaction txn = store_.begin();
  TRY(start_count_, read_counter(txn, "start", 0));
  put_counter(txn, "start", ++start_count_);
  leases_.number_recalls(start_count_);
  locks_.number_recalls(recall_numbers(start_count_));
  TRY(load_features(txn));
  TRY(txn.get(key::meta(kJournalRecord), journal_set_));
  TRY(sessions_.open(txn, loop_.now()));
  TRY(nodes_.open(txn));
  TRY(const bool had_ids, ranges_.open(txn, [this](SessionId id) {
    if (sessions_.find(id) != nullptr) return IdRanges::Keeps::all;
    return sessions_.retired(id) != nullptr ? IdRanges::Keeps::inodes : IdRanges::Keeps::nothing;
  }));
  TRY(maintenance_->open(txn));
  TRY(open_leadership(txn));
  if (had_ids) maintenance_->make_garbage_scrub_due(txn);
  slept_ = suspended_();
  for (auto& [id, session] : sessions_.all()) {
    awaited_.insert(id);
    renew(*session);
  }
  sessions_at_start_ = sessions_.all().size();
  TRY(committer_.apply(std::move(txn)));
  for (const SessionId id : std::set<SessionId>(awaited_)) end_if_over(id);
  TRY(committer_.wait_durable(kStartDurable));
  durable_ = store_.sequence();
  begin_leadership();
  if (awaited_.empty()) {
    maintenance_->orphans_may_go();
  } else {
    spdlog::info("waiting for {} mounts that were connected before the restart", awaited_.size());
  }
  maintenance_->start();
  inline_room_.start();
  if (deps_.journal && metadata_key_) {
    TRY(start_journal_work());
  }
  keep_leader_record();
  loop_.after(kTick, [this] { tick(); });
  return success();
}

void MetadataService::tick() {
  excuse_own_sleep();
  excuse_lost_lease();
  std::vector<SessionId> ids;
  for (const auto& [id, session] : sessions_.all()) ids.push_back(id);
  for (const SessionId id : ids) end_if_over(id);
  end_expired();
  forget_retired();
  tell_committed();
  maintenance_->tick();
  pump();
  loop_.after(kTick, [this] { tick(); });
}

bool MetadataService::in_grace(const Call& call) const {
  if (awaited_.empty()) return false;
  // What mounts have kept from before the restart comes first.
  const auto session = sessions_.all().find(call.session);
  if (session != sessions_.all().end() && session->second->resending) return false;
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
  session.lease_end = lease_now() + milliseconds(lease_ms + lease_ms / 10);
}

// While this machine slept nobody could renew a lease here. Those of the mounts have run out by
// their clocks all the same; the sessions get the time of one lease to say that they live.
void MetadataService::excuse_own_sleep() {
  const Duration slept = suspended_() - slept_;
  slept_ += slept;
  if (slept < kTick) return;
  spdlog::warn("this machine was suspended for {} s; mounts get a new lease",
               std::chrono::duration_cast<seconds>(slept).count());
  for (auto& [id, session] : sessions_.all()) {
    const auto heard = session->heard;
    renew(*session);
    session->heard = heard;
  }
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
  } else if (may_answer() && lease_now() > session->lease_end) {
    const size_t unanswered = leases_.recalls_unanswered(id);
    end_session(id,
                unanswered == 0
                    ? "its lease has run out"
                    : fmt::format("its lease has run out with {} recalls unanswered", unanswered),
                false, Comeback::may);
  }
}

void MetadataService::forget_retired() {
  const auto over = sessions_.retired_too_long(loop_.now());
  if (over.empty()) return;
  Transaction txn = store_.begin();
  for (const SessionId id : over) {
    ranges_.revoke_all(txn, id);
    sessions_.forget_retired(txn, id);
  }
  (void)committer_.apply(std::move(txn));  // a failure ends the daemon
}

void MetadataService::end_session(SessionId id, const std::string& why, bool clean,
                                  Comeback comeback) {
  SessionState* session = sessions_.find(id);
  if (session == nullptr) return;
  spdlog::info("session {}: {} has ended: {}", id, session->describe(), why);
  const auto connection = session->connection;
  Transaction txn = store_.begin();
  const bool retires = comeback == Comeback::may && session->record.protocol() >= kProtocolRejoin;
  const bool had_ids = ranges_.revoke_all(txn, id, retires);
  const bool scrub = (had_ids && !clean) || session->abandoned;
  if (scrub) maintenance_->make_garbage_scrub_due(txn);
  retires ? sessions_.retire(txn, id, loop_.now()) : sessions_.erase(txn, id);
  leases_.end_session(id);
  locks_.end_session(id);
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
  // Its changes wait for the journal's sites, and with them its answers.
  if (works || committer_.full()) session.recalled_at = loop_.now();
  return loop_.now() - session.recalled_at <= milliseconds(deps_.config.lease_ms);
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
  *reply.mutable_keepalive()->mutable_features() = features_of_mounts(feature_record_);
  reply.mutable_keepalive()->set_journal_position(committed_position());
  add_places(*call, reply.mutable_keepalive()->mutable_daemons());
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
  if (request.kind() < 1 || request.kind() > 4) {
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
