// The journal at one site: a log of entries of which only one epoch at a time may append.
// docs/journal.md has the protocol over several of them; this is the seam for the back ends.
//
// A site's log is read backwards from its newest segment: what a newer epoch has superseded is no
// part of it. Entries are opaque, sealed and chained (log_entry.h).
//
// Failures, of every method:
//   stale     refused: another epoch is promised or leads, or an append is not what comes next. The
//             call does not count and never will; but bytes of an append may be found by the next
//             claim (directories), and an earlier attempt of it may have landed: settle() tells.
//   revoked   the log is sealed: the site has left the journal for good.
//   invalid   the caller's mistake; nothing has changed.
//   corrupt   what is at the site is not what was written; nobody repairs it by appending.
//   anything else (timed_out, io, away, no_space, ...) is UNKNOWN for what changes the log: it may
//             have happened, not have happened, or happen later. settle(), or the same call again.
//
// Durability: what answered success survives a power cut of the site.
//
// Threading: all methods from any thread. All but append may block, for as long as the site takes.
// append returns at once; its callback runs once, on a thread of the store or within the call, and
// must not block.
// Appends take effect in the order in which they were given; after one that failed, all later ones
// are refused until settle(). More than kAppendsMax under way are refused (invalid).
// No lock at the site is held by anybody: one who stopped blocks nobody.
#pragma once

#include <functional>
#include <vector>

#include "common/base/error.h"
#include "daemon/journal/log_entry.h"

namespace datacloud::journal {

struct LogHead {
  JournalId journal{};
  Epoch promised;      // the highest claim: no lower epoch's appends count
  Epoch begun;         // whose segment ends the log
  LogPosition last;    // of the log
  uint64_t floor = 1;  // the lowest sequence that may still exist here
  bool sealed = false;
  bool operator==(const LogHead&) const = default;
};

inline constexpr size_t kReadBytesMax = size_t{16} << 20;
inline constexpr size_t kAppendsMax = 64;

// Where a log goes on.
enum class Base {
  in_log,      // after an entry of this log; what follows it there is superseded
  checkpoint,  // after an entry that a checkpoint covers: nothing of the log is kept
};

class LogStore {
 public:
  using Done = std::function<void(result<void>)>;
  virtual ~LogStore() = default;

  // As of one instant, from the site. `last` is what reading the log shows, not what somebody
  // noted.
  virtual result<LogHead> head() = 0;

  // Promises: from the answer on no lower epoch's append counts, and the answer shows every append
  // that counts. stale: an epoch that is not lower is promised. Claiming again what is promised
  // to the same epoch succeeds, so that an unknown outcome can be settled by asking again.
  virtual result<LogHead> claim(const Epoch&) = 0;

  // Starts the epoch's own part of the log, once claimed; appends go on after `base`. invalid:
  // `base` is not in the log.
  virtual result<void> begin(const Epoch&, const LogPosition& base, Base) = 0;

  // Appends, if the epoch is promised still and the batch continues the log. ok: all of it counts.
  // Of one that is unknown, the first entries alone may be there (a torn write to a directory).
  virtual void append(const Epoch&, LogBatch, Done) = 0;

  // After a failure: waits for the answers of appends under way and says where the log ends now.
  // Appends go on from there, the first one with bytes that were sent before and did not land. One
  // that timed out may still land before its repetition, which is then refused: settle again.
  virtual result<LogHead> settle(const Epoch&) = 0;

  // Entries from this sequence on, in order, at least one and as many as fit. Empty: the log ends
  // before it. not_found: below the floor.
  virtual result<std::vector<LogEntry>> read(uint64_t from, size_t bytes_max) = 0;

  // Raises the floor, then deletes segments that lie below it as a whole. The caller has made sure
  // that a checkpoint covers them. Never lowers it.
  virtual result<void> trim(const Epoch&, uint64_t floor) = 0;

  // No epoch may claim or append from now on. Reading stays possible.
  virtual result<void> seal(const Epoch&) = 0;
};

// Whether the call does not count for certain.
inline bool refused(const Error& error) {
  return error.is(Errc::stale) || error.is(Errc::revoked) || error.is(Errc::invalid);
}

// append, and waits. For threads that may block.
result<void> append_now(LogStore&, const Epoch&, LogBatch);

}  // namespace datacloud::journal
