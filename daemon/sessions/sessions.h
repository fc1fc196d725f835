// The sessions of mounts (persisted) and of the tool (not), and the replies stored for them.
//
// A changing request's reply is stored in the transaction that makes the change, so that the same
// request sent again is answered and not executed. Replies a mount has acknowledged are erased
// within its later transactions.
//
// A session whose lease has run out is retired: its number and its stored replies stay known for a
// while, so that its mount, back as a new session, learns what became of its requests (inherit()).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <unordered_set>
#include <vector>

#include "common/base/clock.h"
#include "common/rpc/rpc.h"
#include "daemon/metadata/metadata_store.h"

namespace datacloud {

inline constexpr size_t kStoredRepliesMax = 1u << 20;  // per session
inline constexpr size_t kToolSessionsMax = 256;
inline constexpr SessionId kToolSession = SessionId{1} << 63;  // ids from here on are the tool's
// Retired sessions: so many, with so many stored replies in all, for so long.
inline constexpr size_t kRetiredMax = 256;
inline constexpr size_t kRetiredRepliesMax = 1u << 20;
inline constexpr Duration kRetiredFor = std::chrono::hours(1);

struct SessionState {
  pb::Session record;
  std::shared_ptr<RpcConnection> connection;  // null: disconnected
  MonotonicTime lease_end{};                  // by the service's lease clock
  MonotonicTime heard{};                      // last keepalive or hello
  MonotonicTime recalled_at{};  // owes answers to recalls, no sign of work since; zero: owes none
  bool resumed = true;          // false: known from before the daemon's start and not back yet
  bool resending = false;       // back after a start, and what the mount has kept is arriving
  bool abandoned = false;     // has named puts of unknown outcome: scrub after it, however it ends
  std::set<uint64_t> stored;  // request ids with stored replies
  std::unordered_set<uint64_t> in_flight;  // request ids being worked on
  uint64_t acknowledged = 0;
  uint64_t last_keepalive = 0;
  Sequence changed = 0;  // of its newest change
  Sequence told = 0;     // it knows that everything up to here is durable
  pb::MountStats stats;
  uint64_t bytes_read = 0, bytes_written = 0;  // to and from sites, as it has reported
  std::vector<pb::SiteHealth> health;

  SessionId id() const { return record.id(); }
  bool tool() const { return record.id() >= kToolSession; }
  std::string describe() const;  // "mount HOST:MOUNTPOINT (process PID)"
};

struct RetiredSession {
  pb::Session record;
  std::set<uint64_t> stored;
  MonotonicTime since{};   // of its end, or of the daemon's start
  bool of_before = false;  // its lease ended before this start of the daemon
};

// Whether the two are one mount: by their secret, and without one (mounts from before there were
// any) by their process.
bool same_client(const pb::Session&, const pb::Session&);

class Sessions {
 public:
  // Reads the sessions of earlier runs.
  result<void> open(const Transaction&, MonotonicTime now);

  SessionState* find(SessionId);
  // The session with the secret of this record, on the same machine; null when there is none.
  SessionState* find_client(const pb::Session&);
  // unavailable: more than `sessions_max` mounts.
  result<SessionState*> add_mount(Transaction&, pb::Session record, size_t sessions_max);
  result<SessionState*> add_tool(pb::Session record);
  // The record has changed.
  void update(Transaction&, SessionState&);
  // Forgets the session, its record and its replies.
  void erase(Transaction&, SessionId);

  void retire(Transaction&, SessionId, MonotonicTime now);
  const RetiredSession* retired(SessionId) const;
  // The replies of a retired session become those of its mount's new one.
  result<void> inherit(Transaction&, SessionId retired, SessionState& heir);
  void forget_retired(Transaction&, SessionId);
  // Those that are over the limits now.
  std::vector<SessionId> retired_too_long(MonotonicTime now) const;

  // unavailable: too many unacknowledged replies.
  result<void> store_reply(Transaction&, SessionState&, const pb::Reply&);
  result<std::optional<pb::Reply>> stored_reply(const Transaction&, const SessionState&,
                                                uint64_t request) const;

  std::map<SessionId, std::unique_ptr<SessionState>>& all() { return sessions_; }
  const std::map<SessionId, std::unique_ptr<SessionState>>& all() const { return sessions_; }
  const std::map<SessionId, RetiredSession>& all_retired() const { return retired_; }
  size_t mounts() const;
  // Hellos of mounts since the start: whether anything was mounted meanwhile.
  void count_hello() { ++hellos_; }
  uint64_t hellos() const { return hellos_; }

 private:
  std::map<SessionId, std::unique_ptr<SessionState>> sessions_;
  std::map<SessionId, RetiredSession> retired_;
  SessionId next_tool_ = kToolSession;
  uint64_t hellos_ = 0;
};

}  // namespace datacloud
