// What the leader knows of its standbys, and what follows from it: who may lead next, which plan is
// in force, who is preferred. docs/journal.md, "Standby and take-over".
//
// Threading: the service's thread. Times are given, so that tests have their own.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/proto/journal.pb.h"
#include "daemon/leadership/daemon_places.h"

namespace datacloud {

inline constexpr auto kStandbySilentMax = seconds(3);  // then it counts as away
// A standby that lacks no more entries takes over within moments.
inline constexpr uint64_t kCaughtUpEntries = 1024;

class StandbyRegistry {
 public:
  // invalid: what it says of itself is out of bounds, or it has the leader's own name.
  result<void> report(const pb::LeaderRequest&, const std::string& leader, uint64_t committed,
                      MonotonicTime now);
  void forget(const std::string& name) { standbys_.erase(name); }

  struct Standing {
    MonotonicTime heard{};
    uint64_t applied = 0;
    uint64_t behind = 0;  // entries, as of then
  };
  const Standing* find(const std::string& name) const;
  bool connected(const std::string& name, MonotonicTime now) const;
  bool caught_up(const std::string& name, MonotonicTime now) const;

  // "A", "B" or "C"; empty when the record knows no other daemon.
  std::string plan(const pb::Leadership&, MonotonicTime now) const;
  // Who should lead instead: the first in the order of succession that is caught up, if it has a
  // lower order than the leader.
  std::optional<std::string> preferred(const pb::Leadership&, MonotonicTime now) const;
  // Whether a standby that was heard of within `span`, or since `since`, is silent: the leader then
  // shows at the sites that it lives.
  bool misses_one(const pb::Leadership&, MonotonicTime since, Duration span,
                  MonotonicTime now) const;

 private:
  std::map<std::string, Standing> standbys_;
};

// Puts a daemon into the record, or changes what it says of it. False: it says that already.
// invalid: too many.
result<bool> note_daemon(pb::Leadership&, const pb::Leadership::Daemon&);
// As mounts are told.
std::vector<KnownDaemon> known_daemons(const pb::Leadership&);
// Empty: the record can be used. Else what is wrong with it.
std::string leadership_problem(const pb::Leadership&);

}  // namespace datacloud
