// The journal as its leader sees it: one log, whatever sites hold it. The seam between what fills it
// (the daemon's store) and what keeps it at a quorum (quorum_log.h); tests have one in memory.
//
// Life: claimed when it is made. Then read, then begin, then append. Entries are durable once they
// are committed; they are committed in order.
//
// Failures: stale = another leader has claimed the journal: this one appends nothing that counts any
// more. A site that is away is no failure; without a quorum nothing is committed until there is one.
//
// Threading: all methods from any thread. append, trim and when_committed never block; callbacks
// run on a thread of the log, or before when_committed returns, and must not block.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/base/error.h"
#include "daemon/journal/log_entry.h"

namespace datacloud::journal {

// What a leader knows of one site.
struct ReplicaState {
  int site = 0;
  std::string name;
  std::string state;  // "ok", "behind", "away" or "sealed"
  uint64_t acknowledged = 0;
  std::string reason;  // of away and sealed
};

class ReplicatedLog {
 public:
  virtual ~ReplicatedLog() = default;

  virtual Epoch epoch() const = 0;
  // The end of the log that was adopted.
  virtual LogPosition adopted() const = 0;
  // The lowest sequence that can be read.
  virtual uint64_t floor() const = 0;
  // Entries of the adopted log from this sequence on, in order, until the function fails. Blocks.
  // not_found: below the floor.
  virtual result<void> read(uint64_t from,
                            const std::function<result<void>(const LogEntry&)>&) = 0;
  // Leads: `opening` follows adopted(), and is committed on success. Blocks.
  virtual result<void> begin(LogEntry opening) = 0;

  virtual void append(LogEntry) = 0;  // continues the log
  virtual LogPosition committed() const = 0;
  // Once the entry with this sequence is committed, or never will be.
  virtual void when_committed(uint64_t sequence, std::function<void(result<void>)>) = 0;
  virtual uint64_t uncommitted_bytes() const = 0;
  // Entries below may go at all sites: a checkpoint covers them.
  virtual void trim(uint64_t floor) = 0;
  virtual std::vector<ReplicaState> replicas() const = 0;
};

}  // namespace datacloud::journal
