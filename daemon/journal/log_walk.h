// Reading a site's log back, a piece at a time, and judging whether it is the log that is led.
//
// Every entry must follow the one before it and open under the cloud's key, and the last one must
// be an entry that the leader knows to be committed. As each entry carries the hash of the one
// before, a walk that arrives there has proven all that it has read, whatever the site is.
//
// Threading: one thread at a time; it blocks as long as the site takes.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "common/base/error.h"
#include "daemon/journal/entry_sealer.h"
#include "daemon/journal/log_store.h"

namespace datacloud::journal {

// Where a walk is. It may be stored, and gone on with later.
struct LogWalk {
  uint64_t next = 1;                  // entry
  std::optional<ChainHash> previous;  // of the entry before, once it was read
  LogPosition end;                    // the last one to be read
  bool over() const { return next > end.sequence; }
};

struct WalkedPiece {
  uint64_t entries = 0;
  uint64_t bytes = 0;
  std::vector<LogEntry> roots;  // entries of kind root
};

// At most `bytes_max` bytes (one entry at least) from the walk's place on, which moves. Entries
// below the site's floor are passed over.
//   corrupt   the log is wrong from walk.next on: entries are missing, damaged, or others
//   else      the site did not answer, which says nothing about its log
result<WalkedPiece> walk_log(LogStore&, const JournalId&, EntryOpener&, LogWalk&, size_t bytes_max);

}  // namespace datacloud::journal
