// When a standby takes the leader for dead, and when it is this one's turn: docs/journal.md,
// "Standby and take-over". A state machine without threads, clock or I/O.
//
// The leader lives as long as it answers, or new entries appear at the sites: a standby that has
// only lost its way to the leader does nothing.
#pragma once

#include <optional>
#include <string>

#include "common/base/clock.h"
#include "common/proto/journal.pb.h"

namespace datacloud {

class LeaderWatch {
 public:
  struct Rules {
    Duration silence = milliseconds(1500);  // without an answer
    Duration refused = milliseconds(100);   // between two refused connections
    Duration turn = seconds(1);             // each standby waits that much longer than the last
  };
  LeaderWatch(Rules rules, MonotonicTime now) : rules_(rules), sign_(now) {}

  // The leader has answered, or a new entry was seen at a site.
  void lives(MonotonicTime now);
  // Nobody listens where it has answered before.
  void refused(MonotonicTime now);
  // Somebody is about to lead, and is not to be disturbed: until be_prompt() only silence counts,
  // and only one as long as this.
  void be_patient(Duration silence);
  void be_prompt() { patience_.reset(); }

  // Since when it is taken for dead.
  std::optional<MonotonicTime> dead_since(MonotonicTime now) const;
  // Whether the standby that is `rank`-th in the succession (from 0) takes over now.
  bool due(size_t rank, MonotonicTime now) const;

 private:
  const Rules rules_;
  MonotonicTime sign_;  // the last sign of life
  std::optional<MonotonicTime> refused_, refused_again_;
  std::optional<Duration> patience_;
};

// This daemon's place among those that may take over, from 0: by order, then by name; the leader
// that is gone is not among them, unless it is this one. None: it has not been noted.
std::optional<size_t> succession_rank(const pb::Leadership&, const std::string& name);

}  // namespace datacloud
