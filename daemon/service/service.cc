// From request to reply: dispatch, idempotence, waiting, durability.
#include "daemon/service/service.h"

#include <sys/stat.h>

#include <algorithm>

#include "common/base/check.h"
#include "common/base/log.h"
#include "daemon/checkpoint/journal_audit.h"
#include "daemon/maintenance/maintenance.h"
#include "daemon/records/namespace_ops.h"

namespace datacloud {
MetadataService::MetadataService(Dependencies deps)
    : deps_(std::move(deps)),
      store_(deps_.store),
      loop_(*deps_.loop),
      chosen_committer_(deps_.journal
                            ? std::shared_ptr<Committer>(deps_.journal)
                            : std::make_shared<LocalCommitter>(store_, deps_.loop, deps_.fatal)),
      committer_(*chosen_committer_),
      namer_(deps_.name_key),
      started_(loop_.now()),
      leases_(deps_.config.leases_max),
      locks_({.per_file = deps_.config.locks_per_file_max,
              .per_session = deps_.config.locks_per_mount_max,
              // A connection with too many unanswered requests is read no further.
              .waiting_per_session = std::min(deps_.config.locks_waiting_per_mount_max,
                                              deps_.config.requests_in_flight_max / 2)}),
      traffic_since_(started_),
      inline_room_(store_, loop_,
                   {.bytes_max = deps_.config.inline_bytes_max,
                    .bytes_per_second_max = deps_.config.inline_bytes_per_second_max}),
      maintenance_(std::make_unique<Maintenance>(deps_, Maintenance::Shared{.committer = committer_,
                                                                            .responder = *this,
                                                                            .namer = namer_,
                                                                            .sessions = sessions_,
                                                                            .ranges = ranges_,
                                                                            .inode_ids = inode_ids_,
                                                                            .leases = leases_})) {
  leases_.on_unheld([this](InodeId ino) { maintenance_->file_released(ino); });
}

MetadataService::~MetadataService() = default;

void MetadataService::on_site_change() {
  maintenance_->on_site_change();
  if (checkpoints_) checkpoints_->job().on_site_change();
  if (leader_record_) leader_record_->on_site_change();
}

void MetadataService::on_request(std::shared_ptr<RpcConnection> connection, pb::Request request) {
  auto call = std::make_shared<Call>();
  call->connection = std::move(connection);
  call->request = std::move(request);
  if (call->request.has_hello()) {
    // It goes on to a daemon that leads.
    if (!may_answer() && call->request.hello().kind() != pb::CLIENT_TOOL)
      return call->connection->close();
    hello(call);
    return pump();
  }
  if (call->request.has_join()) return join(call);
  SessionState* session = sessions_.find(call->connection->session);
  if (session == nullptr || session->connection != call->connection) {
    return refuse(call, Error(Errc::session_lost, "this connection has no session; say hello"));
  }
  call->session = session->id();
  const uint64_t id = call->request.id();
  if (id == 0) return refuse(call, Error(Errc::invalid, "a request of a session has no id"));
  // What it has kept was sent before.
  if (session->resending && (call->request.has_sync() || call->request.has_keepalive()))
    resent(*session);
  session->acknowledged =
      std::max(session->acknowledged, std::min(call->request.acknowledged(), id - 1));
  // Sent again over a new connection while the first copy is at work: that one answers.
  if (!session->in_flight.insert(id).second) return;
  call->operation = find_operation(call->request.op_case());
  if (call->operation == nullptr) {
    return refuse(call, Error(Errc::unsupported, "the daemon does not know this request"));
  }
  if (session->tool() && !call->operation->for_tools) {
    return refuse(call, Error(Errc::invalid, "this request is for mounts only"));
  }
  if (auto no = forbidden(*call, call->operation->access)) return refuse(call, *no);
  if (call->operation->may_wait) {
    if (session->in_flight.size() > 2 * deps_.config.requests_in_flight_max) {
      return refuse(call, Error(Errc::unavailable, "too many unanswered requests of one mount"));
    }
    if (in_grace(*call)) {
      held_back_.push_back(call);
      return;
    }
  }
  dispatch(call);
  pump();
}

void MetadataService::dispatch(const CallPtr& call) {
  if (waits_for_lease(call)) return;
  ++operations_[call->request.op_case()];
  SessionState* session = sessions_.find(call->session);
  if (session == nullptr) return;  // ended while the call waited; its connection is closed
  if (answer_from_store(call, *session)) return;
  if (!within_limit(call)) return;
  const auto& request = call->request;
  if (deps_.space && call->operation->adds &&
      (!request.has_commit() || request.commit().stripes_size() > 0)) {
    if (auto full = deps_.space->refusal()) return refuse(call, *full);
  }
  if (waits_for_journal(call)) return;
  const Sequence before = store_.sequence();
  auto reply = call->operation->handler(*this, call);
  DC_CHECK(call->operation->changes || store_.sequence() == before);
  if (!reply) return refuse(call, reply.error());
  if (reply.value()) note_met(*call, *reply.value());
  if (reply.value()) answer(call, std::move(*reply.value()));
}

bool MetadataService::answer_from_store(const CallPtr& call, SessionState& session) {
  if (session.stored.empty()) return false;
  auto stored = sessions_.stored_reply(store_.begin(), session, call->request.id());
  if (!stored) {
    refuse(call, stored.error());
    return true;
  }
  if (!stored.value()) return false;
  pb::Reply reply = std::move(*stored.value());
  // A file without a name that nobody held when the daemon came back is gone: it is made anew.
  if (call->request.create().unnamed() && !get_inode(store_.begin(), reply.attr().inode().ino())) {
    return false;
  }
  refresh_stored(*call, reply);
  if (call->request.commit().durable()) {
    answer_when_durable(call, std::move(reply));
  } else {
    answer(call, std::move(reply));
  }
  return true;
}

// Leases are not stored, and others may have changed the inode since.
void MetadataService::refresh_stored(const Call& call, pb::Reply& reply) {
  const Transaction txn = store_.begin();
  reply.set_sequence(store_.sequence());
  const auto reread = [&](pb::Inode& inode) {
    auto now = get_inode(txn, inode.ino());
    if (now) inode = std::move(now).value();
    return now.has_value();
  };
  if (reply.has_rename()) {
    reread(*reply.mutable_rename()->mutable_moved());
    if (reply.rename().has_replaced()) reread(*reply.mutable_rename()->mutable_replaced());
  }
  if (!reply.has_attr()) return;
  auto& attr = *reply.mutable_attr();
  attr.set_lease(pb::LEASE_NONE);
  attr.set_parent_lease(pb::LEASE_NONE);
  const InodeId ino = attr.inode().ino();
  if (!reread(*attr.mutable_inode()) ||
      (attr.inode().nlink() == 0 && !call.request.create().unnamed())) {
    return;
  }
  if (const InodeId limit = limit_of(call); limit != 0) {
    const auto verdict = limits_.judge(txn, limit, attr.inode());
    if (!verdict || verdict.value() != LimitedDirectories::Verdict::inside) return;
  }
  const auto& create = call.request.create();
  const bool writer = call.request.has_create() && S_ISREG(attr.inode().mode());
  if (create.open()) leases_.grant(call.session, ino, pb::LEASE_NONE, true);
  attr.set_lease(leases_.offer(call.session, ino, writer ? pb::LEASE_WRITE : pb::LEASE_READ));
}

// A change that could still be lost is told to nobody but its author.
void MetadataService::answer(const CallPtr& call, pb::Reply reply) {
  reply.set_id(call->request.id());
  if (reply.sequence() == 0) reply.set_sequence(store_.sequence());
  hide_above_limit(*call, reply);
  if (shows_undurable(*call, reply)) {
    return when_durable([this, call, reply = std::move(reply)]() mutable {
      limit_leases(*call, reply);
      send(*call, std::move(reply));
    });
  }
  if (call->operation == nullptr || !call->operation->changes) return send(*call, std::move(reply));
  committer_.when_committed(
      [this, call, reply = std::move(reply)]() mutable { send(*call, std::move(reply)); });
}

void MetadataService::send(const Call& call, pb::Reply reply) {
  const SessionState* session = sessions_.find(call.session);
  if (session == nullptr || session->tool() || (leaseless_sends_.empty() && may_answer()))
    return send_now(call.session, call.connection, std::move(reply));
  send_out([this, id = call.session, connection = call.connection, reply = std::move(reply)] {
    send_now(id, connection, reply);
  });
}

void MetadataService::send_now(SessionId id, const std::shared_ptr<RpcConnection>& connection,
                               pb::Reply reply) {
  reply.set_committed(durable_);
  SessionState* session = sessions_.find(id);
  if (session == nullptr) return connection->reply(std::move(reply));
  session->in_flight.erase(reply.id());
  // The session may have moved to a new connection since the request came.
  if (!session->connection) return;
  session->told = durable_;
  session->connection->reply(std::move(reply));
}

// The reply has its place in the connection's order at once, so that nothing that happens later, a
// recall above all, overtakes what was true before it.
Answer MetadataService::answer_apart(const CallPtr& call,
                                     std::function<result<pb::Reply>(const Transaction&)> read) {
  // What somebody else has changed and a power cut may take back is told like any other answer.
  if (shows_undurable(*call, {})) {
    TRY(auto reply, read(store_.begin()));
    return std::optional(std::move(reply));
  }
  session_of(*call).in_flight.erase(call->request.id());
  auto make = [view = store_.view(), read = std::move(read), id = call->request.id(),
               durable = durable_] {
    pb::Reply reply;
    if (auto done = read(view->begin())) {
      reply = std::move(done).value();
    } else {
      if (done.error().is(Errc::corrupt)) spdlog::error("metadata: {}", done.error().message());
      set_error(reply, done.error());
    }
    reply.set_id(id);
    reply.set_sequence(view->sequence());
    reply.set_committed(durable);
    return reply;
  };
  const auto queue = [this, durable = durable_](SessionId id, std::function<pb::Reply()> make) {
    SessionState* session = sessions_.find(id);
    if (session == nullptr || !session->connection) return;
    session->told = durable;
    session->connection->reply_with(std::move(make));
  };
  if (session_of(*call).tool() || (leaseless_sends_.empty() && may_answer())) {
    queue(call->session, std::move(make));
  } else {
    send_out([queue, id = call->session, make = std::move(make)] { queue(id, make); });
  }
  return later();
}

void MetadataService::refuse(const CallPtr& call, const Error& error) {
  if (error.is(Errc::corrupt)) spdlog::error("metadata: {}", error.message());
  pb::Reply reply;
  set_error(reply, error);
  answer(call, std::move(reply));
}

void MetadataService::answer_when_durable(const CallPtr& call, pb::Reply reply) {
  reply.set_id(call->request.id());
  if (reply.sequence() == 0) reply.set_sequence(store_.sequence());
  if (all_durable()) return send(*call, std::move(reply));
  when_durable([this, call, reply = std::move(reply)]() mutable { send(*call, std::move(reply)); });
}

bool MetadataService::admitted(const CallPtr& call, InodeId ino, pb::LeaseMode others,
                               LeaseTable::Wants wants) {
  if (call->admitted == ino || leases_.admits(call->session, ino, others)) return true;
  const bool attributes = wants == LeaseTable::Wants::attributes;
  leases_.wait(
      call->session, ino, others,
      [this, call, ino, attributes] {
        // Served for attributes alone it may have to wait once more.
        if (!attributes || leases_.unwritten(ino).attributes == nullptr) call->admitted = ino;
        dispatch(call);
      },
      wants);
  return false;
}

result<void> MetadataService::commit(Transaction&& txn, const Call& call, pb::Reply& reply) {
  SessionState& session = session_of(call);
  reply.set_id(call.request.id());
  TRY(sessions_.store_reply(txn, session, reply));
  TRY(committer_.apply(std::move(txn)));
  reply.set_sequence(store_.sequence());
  note_change(call, reply);
  return success();
}

Answer MetadataService::after_notice(const CallPtr& call, const LeaseTable::NoticePtr& notice,
                                     pb::Reply reply) {
  note_met(*call, reply);
  if (!notice) return std::optional(std::move(reply));
  // The author's own lease may have been recalled meanwhile: the reply must not promise it.
  notice->done = [this, call, reply = std::move(reply)] {
    pb::Reply current = reply;
    refresh_stored(*call, current);
    answer(call, std::move(current));
  };
  return later();
}

void MetadataService::send_recall(const LeaseTable::Recall& recall) {
  SessionState* session = sessions_.find(recall.session);
  // A disconnected mount gets it when it resumes.
  if (session == nullptr || !session->connection) return;
  if (session->recalled_at == MonotonicTime{}) session->recalled_at = loop_.now();
  pb::Push push;
  auto* out = push.mutable_recall();
  out->set_id(recall.id);
  out->set_ino(recall.ino);
  out->set_mode(recall.mode);
  for (const auto& name : recall.names) out->add_names(name);
  push_out(*session, std::move(push));
}

void MetadataService::push_out(const SessionState& session, pb::Push push) {
  if (leaseless_sends_.empty() && may_answer()) return session.connection->push(push);
  send_out([connection = session.connection, push = std::move(push)] { connection->push(push); });
}

// Sends recalls and runs the calls whose turn has come, until there are none.
void MetadataService::pump() {
  for (;;) {
    for (const auto& recall : leases_.take_recalls()) send_recall(recall);
    for (const auto& recall : locks_.take_recalls()) send_lock_recall(recall);
    auto next = leases_.next_ready();
    if (!next) next = locks_.next_ready();
    if (next) {
      next();
      continue;
    }
    const auto last = leases_.take_recalls();
    if (last.empty()) return;
    for (const auto& recall : last) send_recall(recall);
  }
}

}  // namespace datacloud
