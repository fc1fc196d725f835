// Brings the daemon's store and the journal together at the start, and leads from there.
//
// docs/journal.md, "Start of the daemon". What the store has and no site of the journal has is put
// into the journal when nobody has led since; when somebody has, it is taken back, for what the
// journal says is what others were told.
#pragma once

#include <functional>
#include <memory>

#include "common/crypto/keys.h"
#include "daemon/metadata/journal_committer.h"

namespace datacloud {

struct JournalStart {
  std::shared_ptr<EventLoop> loop;
  std::shared_ptr<journal::QuorumLog> log;  // claimed, not begun
  journal::JournalId journal{};
  SecretKey metadata_key;
  uint64_t uncommitted_bytes_max = 64u << 20;
  Duration append_delay{0};  // JournalCommitter::Options
  std::function<void(const Error&)> fatal;
};

struct JournalStarted {
  std::unique_ptr<JournalCommitter> committer;
  uint64_t replayed = 0;  // transactions that the journal had and the store had not
  uint64_t undone = 0;    // of the store, that the journal has not, taken back
  uint64_t kept = 0;      // of the store, that the journal had not, put into it
};

// Blocks; before anything else changes the store. May be repeated after any failure or crash.
// not_found: the store is no part of the journal and cannot be made one (it was put back from an
// old backup): it has to be rebuilt from a checkpoint. Nothing has changed then.
result<JournalStarted> start_journal(MetadataStore&, JournalStart);

}  // namespace datacloud
