// The sessions of mounts (persisted) and of the tool (not), and the replies stored for them.
//
// A changing request's reply is stored in the transaction that makes the change, so that the same
// request sent again is answered and not executed. Replies a mount has acknowledged are erased
// within its later transactions.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <unordered_set>

#include "common/base/clock.h"
#include "common/rpc/rpc.h"
#include "daemon/metadata/metadata_store.h"

namespace datacloud {

inline constexpr size_t kStoredRepliesMax = 1u << 20;  // per session
inline constexpr size_t kToolSessionsMax = 256;
inline constexpr SessionId kToolSession = SessionId{1} << 63;  // ids from here on are the tool's

struct SessionState {
  pb::Session record;
  std::shared_ptr<RpcConnection> connection;  // null: disconnected
  MonotonicTime lease_end{};
  MonotonicTime heard{};        // last keepalive or hello
  MonotonicTime recalled_at{};  // owes answers to recalls, no sign of work since; zero: owes none
  bool resumed = true;          // false: known from before the daemon's start and not back yet
  bool ids_revoked = false;     // to be told at its next hello
  bool abandoned = false;     // has named puts of unknown outcome: scrub after it, however it ends
  std::set<uint64_t> stored;  // request ids with stored replies
  std::unordered_set<uint64_t> in_flight;  // request ids being worked on
  uint64_t acknowledged = 0;
  uint64_t last_keepalive = 0;
  pb::MountStats stats;
  uint64_t bytes_read = 0, bytes_written = 0;  // to and from sites, as it has reported
  std::vector<pb::SiteHealth> health;

  SessionId id() const { return record.id(); }
  bool tool() const { return record.id() >= kToolSession; }
  std::string describe() const;  // "mount HOST:MOUNTPOINT (process PID)"
};

class Sessions {
 public:
  // Reads the sessions of earlier runs.
  result<void> open(const Transaction&);

  SessionState* find(SessionId);
  // unavailable: more than `sessions_max` mounts.
  result<SessionState*> add_mount(Transaction&, pb::Session record, size_t sessions_max);
  result<SessionState*> add_tool(pb::Session record);
  // Forgets the session, its record and its replies.
  void erase(Transaction&, SessionId);

  // unavailable: too many unacknowledged replies.
  result<void> store_reply(Transaction&, SessionState&, const pb::Reply&);
  result<std::optional<pb::Reply>> stored_reply(const Transaction&, const SessionState&,
                                                uint64_t request) const;

  std::map<SessionId, std::unique_ptr<SessionState>>& all() { return sessions_; }
  const std::map<SessionId, std::unique_ptr<SessionState>>& all() const { return sessions_; }
  size_t mounts() const;
  // Hellos of mounts since the start: whether anything was mounted meanwhile.
  void count_hello() { ++hellos_; }
  uint64_t hellos() const { return hellos_; }

 private:
  std::map<SessionId, std::unique_ptr<SessionState>> sessions_;
  SessionId next_tool_ = kToolSession;
  uint64_t hellos_ = 0;
};

}  // namespace datacloud
