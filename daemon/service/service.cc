// From request to reply: dispatch, idempotence, waiting, durability.
#include "daemon/service/service.h"

#include <sys/stat.h>

#include "common/base/log.h"
#include "daemon/metadata/state_directory.h"
#include "daemon/records/namespace_ops.h"

namespace datacloud {
namespace {

// Requests that look at or change what leases protect. They may wait: for recalls, and after a
// start for the previous sessions. Everything else is served at once, always: mounts need it to
// answer recalls.
bool may_wait(const pb::Request& request) {
  switch (request.op_case()) {
    case pb::Request::kLookup:
    case pb::Request::kLease:
    case pb::Request::kSetattr:
    case pb::Request::kCreate:
    case pb::Request::kLink:
    case pb::Request::kUnlink:
    case pb::Request::kRename:
    case pb::Request::kReaddir:
    case pb::Request::kSetxattr:
    case pb::Request::kRemovexattr:
      return true;
    default:
      return false;
  }
}

Background::Limits background_limits(const DaemonConfig& config) {
  Background::Limits limits;
  limits.threads = static_cast<int>(config.background_threads);
  limits.site_bytes_per_second_max = config.background_site_bytes_per_second_max;
  limits.site_operations_per_second_max = config.background_site_operations_per_second_max;
  // Checked when the configuration was read.
  if (auto windows = TimeWindows::parse(config.background_windows)) {
    limits.windows = std::move(windows).value();
  }
  limits.outside_bytes_per_second_max = config.background_outside_bytes_per_second_max;
  return limits;
}

// What the tool may ask for: it holds no leases and changes nothing.
bool allowed_to_tool(const pb::Request& request) {
  switch (request.op_case()) {
    case pb::Request::kKeepalive:
    case pb::Request::kGoodbye:
    case pb::Request::kStatfs:
    case pb::Request::kMap:
    case pb::Request::kGetxattr:
    case pb::Request::kListxattr:
    case pb::Request::kSync:
    case pb::Request::kStatus:
    case pb::Request::kLocate:
    case pb::Request::kTraffic:
    case pb::Request::kGc:
    case pb::Request::kRepair:
    case pb::Request::kSite:
    case pb::Request::kAudit:
    case pb::Request::kFold:
    case pb::Request::kAdmin:
      return true;
    default:
      return false;
  }
}

}  // namespace

MetadataService::MetadataService(Dependencies deps)
    : deps_(std::move(deps)),
      store_(deps_.store),
      loop_(*deps_.loop),
      namer_(deps_.name_key),
      tags_(deps_.audit_keys),
      started_(loop_.now()),
      leases_(deps_.config.leases_max),
      orphan_cleaner_(store_, deps_.loop,
                      {[this](InodeId ino) { return leases_.is_held(ino); },
                       [this](Transaction&& txn) { return commit(std::move(txn)); },
                       [this] { collector_.kick(); }}),
      collector_(store_, deps_.sites, namer_, deps_.loop,
                 {[this](Transaction&& txn) { return commit(std::move(txn)); },
                  [this](std::function<void()> f) { when_durable(std::move(f)); }}),
      scrub_(store_, deps_.sites, namer_, ranges_, deps_.loop,
             {[this](Transaction&& txn) { return commit(std::move(txn)); },
              [this](std::function<void()> f) { when_durable(std::move(f)); }}),
      stripe_statistics_(store_, deps_.loop, [this] { return away_sites(); }),
      space_(deps_.sites, deps_.loop, deps_.code),
      traffic_since_(started_),
      background_(deps_.loop, background_limits(deps_.config)),
      background_context_(background_context()),
      background_ids_(background_context_),
      repairer_(background_context_, background_ids_, deps_.loop,
                static_cast<int>(deps_.config.background_threads)),
      missing_shard_scrub_(background_context_, scrub_directory(deps_.config)),
      continuous_scrub_(background_context_, ranges_, deps_.loop,
                        {.cycle = milliseconds(deps_.config.scrub_cycle_ms),
                         .directory = scrub_directory(deps_.config)},
                        [this] { repairer_.kick(); }),
      auditor_(background_context_, deps_.loop, milliseconds(deps_.config.audit_cycle_ms),
               static_cast<int>(deps_.config.background_threads), [this] { repairer_.kick(); }),
      audit_exports_(store_, namer_, deps_.cloud, deps_.audit_keys, deps_.audit_signer),
      fold_scheduler_(
          background_context_, background_ids_, deps_.loop,
          {.jobs_max = std::max(1, static_cast<int>(deps_.config.background_threads) / 2),
           .automatic = deps_.config.fold == "auto",
           .age = milliseconds(deps_.config.fold_age_ms),
           .heat_max = milliseconds(deps_.config.fold_heat_ms),
           .blocked_max = milliseconds(deps_.config.fold_blocked_ms),
           .backlog_bytes_max = deps_.config.fold_backlog_bytes_max}),
      former_(background_context_, background_ids_, deps_.loop) {
  leases_.on_unheld([this](InodeId ino) { orphan_cleaner_.released(ino); });
}

MetadataService::~MetadataService() {
  stop_fsck();
  background_.stop();
}

void MetadataService::on_request(std::shared_ptr<RpcConnection> connection, pb::Request request) {
  auto call = std::make_shared<Call>();
  call->connection = std::move(connection);
  call->request = std::move(request);
  if (call->request.has_hello()) {
    hello(call);
    return pump();
  }
  SessionState* session = sessions_.find(call->connection->session);
  if (session == nullptr || session->connection != call->connection) {
    return refuse(call, Error(Errc::session_lost, "this connection has no session; say hello"));
  }
  call->session = session->id();
  const uint64_t id = call->request.id();
  if (id == 0) return refuse(call, Error(Errc::invalid, "a request of a session has no id"));
  session->ids_revoked = false;  // the hello that said so has arrived
  session->acknowledged =
      std::max(session->acknowledged, std::min(call->request.acknowledged(), id - 1));
  // Sent again over a new connection while the first copy is at work: that one answers.
  if (!session->in_flight.insert(id).second) return;
  if (session->tool() && !allowed_to_tool(call->request)) {
    return refuse(call, Error(Errc::invalid, "this request is for mounts only"));
  }
  if (may_wait(call->request)) {
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
  ++operations_[call->request.op_case()];
  SessionState* session = sessions_.find(call->session);
  if (session == nullptr) return;  // ended while the call waited; its connection is closed
  if (answer_from_store(call, *session)) return;
  auto reply = handle(call);
  if (!reply) return refuse(call, reply.error());
  if (reply.value()) answer(call, std::move(*reply.value()));
}

MetadataService::Answer MetadataService::handle(const CallPtr& call) {
  switch (call->request.op_case()) {
    case pb::Request::kKeepalive:
      return keepalive(call);
    case pb::Request::kGrant:
      return grant(call);
    case pb::Request::kGoodbye:
      return goodbye(call);
    case pb::Request::kLease:
      return lease(call);
    case pb::Request::kRelease:
      return release(call);
    case pb::Request::kRecallDone:
      return recall_done(call);
    case pb::Request::kMap:
      return map(call);
    case pb::Request::kCommit:
      return commit_data(call);
    case pb::Request::kAbandon:
      return abandon(call);
    case pb::Request::kDamage:
      return damage(call);
    case pb::Request::kSync:
      return sync(call);
    case pb::Request::kStatus:
      return status(call);
    case pb::Request::kLocate:
      return locate(call);
    case pb::Request::kTraffic:
      return traffic(call);
    case pb::Request::kGc:
      return gc(call);
    case pb::Request::kRepair:
      return repair(call);
    case pb::Request::kSite:
      return site(call);
    case pb::Request::kAudit:
      return audit(call);
    case pb::Request::kFold:
      return fold(call);
    case pb::Request::kAdmin:
      return admin(call);
    default:
      return handle_namespace(call);
  }
}

MetadataService::Answer MetadataService::handle_namespace(const CallPtr& call) {
  switch (call->request.op_case()) {
    case pb::Request::kLookup:
      return lookup(call);
    case pb::Request::kSetattr:
      return setattr(call);
    case pb::Request::kCreate:
      return create(call);
    case pb::Request::kLink:
      return link(call);
    case pb::Request::kUnlink:
      return unlink(call);
    case pb::Request::kRename:
      return rename(call);
    case pb::Request::kReaddir:
      return readdir(call);
    case pb::Request::kGetxattr:
      return getxattr(call);
    case pb::Request::kSetxattr:
      return setxattr(call);
    case pb::Request::kListxattr:
      return listxattr(call);
    case pb::Request::kRemovexattr:
      return removexattr(call);
    case pb::Request::kStatfs:
      return statfs(call);
    default:
      return failure(Errc::unsupported, "the daemon does not know this request");
  }
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
  if (!reread(*attr.mutable_inode()) || attr.inode().nlink() == 0) return;
  const auto& create = call.request.create();
  const bool writer = call.request.has_create() && S_ISREG(attr.inode().mode());
  if (create.open()) leases_.grant(call.session, ino, pb::LEASE_NONE, true);
  attr.set_lease(leases_.offer(call.session, ino, writer ? pb::LEASE_WRITE : pb::LEASE_READ));
}

void MetadataService::answer(const CallPtr& call, pb::Reply reply) {
  reply.set_id(call->request.id());
  if (reply.sequence() == 0) reply.set_sequence(store_.sequence());
  SessionState* session = sessions_.find(call->session);
  if (session == nullptr) return call->connection->reply(reply);
  session->in_flight.erase(reply.id());
  // The session may have moved to a new connection since the request came.
  if (session->connection) session->connection->reply(reply);
}

void MetadataService::refuse(const CallPtr& call, const Error& error) {
  if (error.is(Errc::corrupt)) spdlog::error("metadata: {}", error.message());
  pb::Reply reply;
  set_error(reply, error);
  answer(call, std::move(reply));
}

void MetadataService::when_durable(std::function<void()> f) {
  store_.when_durable(store_.sequence(),
                      [this, loop = deps_.loop, f = std::move(f)](result<void> synced) mutable {
                        loop->post([this, f = std::move(f), synced = std::move(synced)] {
                          if (!synced) return deps_.fatal(synced.error());
                          f();
                        });
                      });
}

void MetadataService::answer_when_durable(const CallPtr& call, pb::Reply reply) {
  when_durable([this, call, reply = std::move(reply)] { answer(call, reply); });
}

bool MetadataService::admitted(const CallPtr& call, InodeId ino, pb::LeaseMode others) {
  if (call->admitted == ino || leases_.admits(call->session, ino, others)) return true;
  leases_.wait(call->session, ino, others, [this, call, ino] {
    call->admitted = ino;
    dispatch(call);
  });
  return false;
}

result<void> MetadataService::commit(Transaction&& txn) {
  const auto committed = store_.commit(std::move(txn));
  if (committed) return success();
  deps_.fatal(committed.error());
  return failure(committed.error());
}

result<void> MetadataService::commit(Transaction&& txn, const Call& call, pb::Reply& reply) {
  SessionState& session = session_of(call);
  reply.set_id(call.request.id());
  TRY(sessions_.store_reply(txn, session, reply));
  TRY(commit(std::move(txn)));
  reply.set_sequence(store_.sequence());
  return success();
}

MetadataService::Answer MetadataService::after_notice(const CallPtr& call,
                                                      const LeaseTable::NoticePtr& notice,
                                                      pb::Reply reply) {
  if (!notice) return std::optional(std::move(reply));
  // Meanwhile the asker may have been recalled from what it was to be told here.
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
  pb::Push push;
  auto* out = push.mutable_recall();
  out->set_id(recall.id);
  out->set_ino(recall.ino);
  out->set_mode(recall.mode);
  for (const auto& name : recall.names) out->add_names(name);
  session->connection->push(push);
}

// Sends recalls and runs the calls whose turn has come, until nothing moves.
void MetadataService::pump() {
  for (;;) {
    for (const auto& recall : leases_.take_recalls()) send_recall(recall);
    const auto next = leases_.next_ready();
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
