// Session and reply records.
#include "daemon/sessions/sessions.h"

#include <fmt/format.h>

#include "daemon/metadata/counters.h"
#include "daemon/metadata/record_keys.h"

namespace datacloud {
namespace {

constexpr const char* kSessionCounter = "next_id/session";
constexpr int kErasedPerTransaction = 64;
constexpr size_t kTextMax = 4096;  // of host, mount point and version

void cut(std::string& text) {
  if (text.size() > kTextMax) text.resize(kTextMax);
}

}  // namespace

std::string SessionState::describe() const {
  if (!record.node().empty()) {
    return fmt::format("mount {}:{} (node {} at {})", record.host(), record.mountpoint(),
                       record.node(), record.address());
  }
  return fmt::format("mount {}:{} (process {})", record.host(), record.mountpoint(), record.pid());
}

result<void> Sessions::open(const Transaction& txn) {
  const std::string sessions = key::session(0).substr(0, 1);
  bool damaged = false;
  TRY(txn.scan(sessions, key::after_prefix(sessions), [&](std::string_view, std::string_view v) {
    auto state = std::make_unique<SessionState>();
    damaged = !state->record.ParseFromArray(v.data(), static_cast<int>(v.size()));
    state->resumed = false;
    state->ids_revoked = true;
    const SessionId id = state->record.id();
    if (!damaged) sessions_[id] = std::move(state);
    return !damaged;
  }));
  if (damaged) {
    return failure(Errc::corrupt, "a session record is damaged; restore the state directory");
  }
  const std::string replies = key::reply(0, 0).substr(0, 1);
  return txn.scan(replies, key::after_prefix(replies), [&](std::string_view k, std::string_view) {
    if (k.size() != 17) return true;
    if (auto* state = find(key::u64_at(k, 1))) state->stored.insert(key::u64_at(k, 9));
    return true;
  });
}

SessionState* Sessions::find(SessionId id) {
  const auto it = sessions_.find(id);
  return it == sessions_.end() ? nullptr : it->second.get();
}

size_t Sessions::mounts() const {
  return std::distance(sessions_.begin(), sessions_.lower_bound(kToolSession));
}

result<SessionState*> Sessions::add_mount(Transaction& txn, pb::Session record,
                                          size_t sessions_max) {
  if (mounts() >= sessions_max) {
    return failure(
        Errc::unavailable,
        fmt::format("{} mounts are connected already; raise daemon.sessions_max", sessions_max));
  }
  // Never the id that a mount had, even if the counter is of restored records: its leases carry
  // that.
  TRY(const uint64_t counter, read_counter(txn, kSessionCounter, 1));
  const uint64_t lost = record.id() < kToolSession / 2 ? record.id() : 0;
  const uint64_t id = std::max(counter, lost + 1);
  put_counter(txn, kSessionCounter, id + 1);
  record.set_id(id);
  cut(*record.mutable_host());
  cut(*record.mutable_mountpoint());
  cut(*record.mutable_version());
  txn.put(key::session(id), record);
  auto& state = sessions_[id] = std::make_unique<SessionState>();
  state->record = std::move(record);
  return state.get();
}

result<SessionState*> Sessions::add_tool(pb::Session record) {
  if (sessions_.size() - mounts() >= kToolSessionsMax) {
    return failure(Errc::unavailable, "too many administrative connections; try again later");
  }
  record.set_id(next_tool_++);
  auto& state = sessions_[record.id()] = std::make_unique<SessionState>();
  state->record = std::move(record);
  return state.get();
}

void Sessions::erase(Transaction& txn, SessionId id) {
  const auto it = sessions_.find(id);
  if (it == sessions_.end()) return;
  if (!it->second->tool()) {
    txn.erase(key::session(id));
    for (const uint64_t request : it->second->stored) txn.erase(key::reply(id, request));
  }
  sessions_.erase(it);
}

result<void> Sessions::store_reply(Transaction& txn, SessionState& session,
                                   const pb::Reply& reply) {
  if (session.stored.size() >= kStoredRepliesMax) {
    return failure(Errc::unavailable, "too many replies this mount has not acknowledged");
  }
  txn.put(key::reply(session.id(), reply.id()), reply);
  auto& stored = session.stored;
  for (int i = 0; i < kErasedPerTransaction && !stored.empty(); ++i) {
    if (*stored.begin() > session.acknowledged) break;
    txn.erase(key::reply(session.id(), *stored.begin()));
    stored.erase(stored.begin());
  }
  stored.insert(reply.id());
  return success();
}

result<std::optional<pb::Reply>> Sessions::stored_reply(const Transaction& txn,
                                                        const SessionState& session,
                                                        uint64_t request) const {
  std::optional<pb::Reply> none;
  if (session.stored.count(request) == 0) return none;
  pb::Reply reply;
  TRY(const bool found, txn.get(key::reply(session.id(), request), reply));
  if (!found) return none;
  return std::optional<pb::Reply>(std::move(reply));
}

}  // namespace datacloud
