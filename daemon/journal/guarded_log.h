// The journal at a site whose objects change under a guard (guarded_objects.h): RADOS, memory.
// docs/journal.md, "Guarded sites".
//
// An append is one operation: it happens only while the epoch is promised, the segment is the last
// one and the sequence is the next one. Appends are pipelined. A new segment is made first, and is
// part of the log once the old one names it as its successor, in an operation with the same guards.
#pragma once

#include <memory>

#include "common/store/guarded_objects.h"
#include "daemon/journal/log_store.h"

namespace datacloud::journal {

struct GuardedLogOptions {
  JournalId journal{};
  uint64_t segment_bytes = uint64_t{64} << 20;  // RADOS refuses objects above 128 MiB
};

// Makes an empty journal. exists: there is one.
result<void> format_guarded_log(GuardedObjects&, const GuardedLogOptions&);

std::unique_ptr<LogStore> make_guarded_log(std::unique_ptr<GuardedObjects>, GuardedLogOptions);

}  // namespace datacloud::journal
