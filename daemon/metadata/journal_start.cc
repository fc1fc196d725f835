// The start of a daemon whose cloud has a journal (journal_start.h).
//
// Whatever is done before the leadership has begun can be undone at a next start: transactions that
// are replayed have undo records, unless they are known to be committed.
#include "daemon/metadata/journal_start.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

namespace datacloud {
namespace {

using journal::LogEntry;
using journal::LogPosition;

// Where store and log part.
struct Parting {
  LogPosition base;    // the last position of the store that the log has
  uint64_t local = 0;  // first undo number behind it; 0: none
  uint64_t count = 0;  // of undo records from there on
};

// False below the floor: nothing is known of that any more.
result<bool> has(journal::QuorumLog& log, const LogPosition& position) {
  auto found = log.contains(position);
  if (!found && found.error().is(Errc::not_found)) return false;
  return found;
}

result<Parting> find_parting(const MetadataStore& store, journal::QuorumLog& log) {
  TRY(const auto undoable, store.undoable());
  std::optional<LogPosition> base;
  const LogPosition now = store.journal_position();
  TRY(const bool whole, has(log, now));
  if (whole) base = now;
  for (auto at = undoable.rbegin(); !base && at != undoable.rend(); ++at) {
    TRY(const bool there, has(log, at->before));
    if (there) base = at->before;
  }
  if (!base) {
    return failure(
        Errc::not_found,
        "the metadata store is at entry " + std::to_string(now.sequence) +
            " of a history that the journal does not have (it has entries " +
            std::to_string(log.floor()) + " to " + std::to_string(log.adopted().sequence) +
            "): it was put back from an old backup, or another daemon has led the cloud since");
  }
  Parting parting{.base = *base};
  for (const auto& one : undoable) {
    if (one.number <= base->sequence) continue;
    if (parting.count++ == 0) parting.local = one.number;
  }
  return parting;
}

// The highest sequence that some entry of the log says is committed.
result<uint64_t> known_committed(journal::QuorumLog& log) {
  const uint64_t last = log.adopted().sequence;
  if (last < log.floor()) return last;
  uint64_t committed = 0;
  TRY(log.read(last, [&](const LogEntry& entry) -> result<void> {
    committed = entry.header.committed;
    return success();
  }));
  return committed;
}

// Applies the log's transactions behind the base. With the first of them, what the store has beside
// the log is taken back.
result<void> replay(MetadataStore& store, journal::QuorumLog& log, const SecretKey& key,
                    Parting& parting, JournalStarted& out) {
  if (parting.base.sequence >= log.adopted().sequence) return success();
  TRY(const uint64_t committed, known_committed(log));
  BatchReader batches(key);
  LogPosition before = parting.base;  // in front of the transaction
  bool within = false;                // of one: more of its entries follow
  LogPosition last = parting.base;
  return log.read(parting.base.sequence + 1, [&](const LogEntry& entry) -> result<void> {
    if (entry.header.kind == journal::EntryKind::opening) within = false;
    if (!within) before = last;
    last = entry.position();
    TRY(auto batch, batches.add(entry));
    if (entry.header.kind == journal::EntryKind::data) within = !batch;
    if (!batch) return success();
    for (; parting.count > 0; --parting.count, ++out.undone) {
      TRY(store.undo());
    }
    parting.local = 0;
    const MetadataStore::JournalStep step{.before = before, .position = last, .committed = 0};
    TRY(store.replay(batch->changes, batch->sequence, step,
                     last.sequence <= committed ? MetadataStore::Replay::committed
                                                : MetadataStore::Replay::undoable));
    ++out.replayed;
    return success();
  });
}

}  // namespace

result<JournalStarted> start_journal(MetadataStore& store, JournalStart start) {
  JournalStarted out;
  journal::QuorumLog& log = *start.log;
  TRY(auto parting, find_parting(store, log));
  TRY(replay(store, log, start.metadata_key, parting, out));

  auto sealer =
      std::make_unique<journal::EntrySealer>(start.metadata_key, start.journal, log.epoch());
  TRY(const auto opening,
      sealer->seal(journal::EntryKind::opening, log.adopted(), log.committed().sequence, {}));
  TRY(log.begin(opening));
  JournalCommitter::Options options;
  options.loop = std::move(start.loop);
  options.log = std::move(start.log);
  options.sealer = std::move(sealer);
  options.last = opening.position();
  options.uncommitted_bytes_max = start.uncommitted_bytes_max;
  options.append_delay = start.append_delay;
  options.fatal = std::move(start.fatal);
  out.committer = std::make_unique<JournalCommitter>(store, std::move(options));
  if (parting.count == 0) return out;
  out.kept = parting.count;
  TRY(out.committer->append_local(parting.local));
  return out;
}

}  // namespace datacloud
