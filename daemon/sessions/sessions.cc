// Session and reply records.
#include "daemon/sessions/sessions.h"

#include <fmt/format.h>

#include "daemon/metadata/counters.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/sessions/retired_mark.h"

namespace datacloud {
namespace {

constexpr const char* kSessionCounter = "next_id/session";
constexpr int kErasedPerTransaction = 64;
constexpr size_t kTextMax = 4096;  // of host, mount point and version

void cut(std::string& text) {
  if (text.size() > kTextMax) text.resize(kTextMax);
}

void cut_texts(pb::Session& record) {
  cut(*record.mutable_host());
  cut(*record.mutable_mountpoint());
  cut(*record.mutable_version());
}

}  // namespace

std::string SessionState::describe() const {
  if (!record.node().empty()) {
    return fmt::format("mount {}:{} (node {} at {})", record.host(), record.mountpoint(),
                       record.node(), record.address());
  }
  return fmt::format("mount {}:{} (process {})", record.host(), record.mountpoint(), record.pid());
}

bool same_client(const pb::Session& known, const pb::Session& now) {
  if (known.node() != now.node()) return false;
  if (!known.secret().empty()) return known.secret() == now.secret();
  return known.node().empty() && known.pid() != 0 && known.pid() == now.pid() &&
         known.process_start() == now.process_start() && known.boot_id() == now.boot_id();
}

result<void> Sessions::open(const Transaction& txn, MonotonicTime now) {
  const std::string sessions = key::session(0).substr(0, 1);
  bool damaged = false;
  TRY(txn.scan(sessions, key::after_prefix(sessions), [&](std::string_view, std::string_view v) {
    auto state = std::make_unique<SessionState>();
    damaged = !state->record.ParseFromArray(v.data(), static_cast<int>(v.size()));
    state->resumed = false;
    const SessionId id = state->record.id();
    if (!damaged) sessions_[id] = std::move(state);
    return !damaged;
  }));
  if (damaged) {
    return failure(Errc::corrupt, "a session record is damaged; restore the state directory");
  }
  const std::string marks = key::meta(kRetiredMark);
  TRY(txn.scan(marks, key::after_prefix(marks), [&](std::string_view k, std::string_view) {
    const auto it = sessions_.find(retired_of_mark(k));
    if (it == sessions_.end()) return true;
    retired_[it->first] = {std::move(it->second->record), {}, now, true};
    sessions_.erase(it);
    return true;
  }));
  const std::string replies = key::reply(0, 0).substr(0, 1);
  return txn.scan(replies, key::after_prefix(replies), [&](std::string_view k, std::string_view) {
    if (k.size() != 17) return true;
    const SessionId session = key::u64_at(k, 1);
    const uint64_t request = key::u64_at(k, 9);
    if (auto* state = find(session)) state->stored.insert(request);
    if (const auto it = retired_.find(session); it != retired_.end())
      it->second.stored.insert(request);
    return true;
  });
}

SessionState* Sessions::find(SessionId id) {
  const auto it = sessions_.find(id);
  return it == sessions_.end() ? nullptr : it->second.get();
}

SessionState* Sessions::find_client(const pb::Session& client) {
  if (client.secret().empty()) return nullptr;
  for (const auto& [id, session] : sessions_) {
    if (!session->tool() && session->record.secret() == client.secret() &&
        session->record.node() == client.node()) {
      return session.get();
    }
  }
  return nullptr;
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
  cut_texts(record);
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

void Sessions::update(Transaction& txn, SessionState& session) {
  cut_texts(session.record);
  txn.put(key::session(session.id()), session.record);
}

// Its record stays, and a mark beside it says that nobody holds it any more.
void Sessions::retire(Transaction& txn, SessionId id, MonotonicTime now) {
  const auto it = sessions_.find(id);
  if (it == sessions_.end()) return;
  txn.put(key::meta(retired_mark(id)), std::string("1"));
  retired_[id] = {std::move(it->second->record), std::move(it->second->stored), now, false};
  sessions_.erase(it);
}

const RetiredSession* Sessions::retired(SessionId id) const {
  const auto it = retired_.find(id);
  return it == retired_.end() ? nullptr : &it->second;
}

result<void> Sessions::inherit(Transaction& txn, SessionId id, SessionState& heir) {
  const auto it = retired_.find(id);
  if (it == retired_.end()) return success();
  for (const uint64_t request : it->second.stored) {
    TRY(auto reply, txn.get(key::reply(id, request)));
    if (!reply) continue;
    txn.put(key::reply(heir.id(), request), std::move(*reply));
    heir.stored.insert(request);
  }
  forget_retired(txn, id);
  return success();
}

void Sessions::forget_retired(Transaction& txn, SessionId id) {
  const auto it = retired_.find(id);
  if (it == retired_.end()) return;
  txn.erase(key::session(id));
  txn.erase(key::meta(retired_mark(id)));
  for (const uint64_t request : it->second.stored) txn.erase(key::reply(id, request));
  retired_.erase(it);
}

std::vector<SessionId> Sessions::retired_too_long(MonotonicTime now) const {
  std::vector<SessionId> over;
  size_t count = retired_.size(), replies = 0;
  for (const auto& [id, session] : retired_) replies += session.stored.size();
  // Numbers grow: the first have ended first, or nearly so.
  for (const auto& [id, session] : retired_) {
    if (now - session.since <= kRetiredFor && count <= kRetiredMax && replies <= kRetiredRepliesMax)
      continue;
    over.push_back(id);
    --count;
    replies -= session.stored.size();
  }
  return over;
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
