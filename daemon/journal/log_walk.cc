// See log_walk.h.
#include "daemon/journal/log_walk.h"

#include <string>

namespace datacloud::journal {
namespace {

Error wrong(uint64_t sequence, const std::string& how) {
  return Error(Errc::corrupt, "entry " + std::to_string(sequence) + " " + how);
}

// The piece at walk.next; empty when the floor was raised beyond the walk's end meanwhile.
result<std::vector<LogEntry>> read_piece(LogStore& log, LogWalk& walk, size_t bytes_max) {
  auto got = log.read(walk.next, bytes_max);
  if (!got && got.error().is(Errc::not_found)) {
    TRY(const auto head, log.head());
    if (head.floor <= walk.next) return failure(wrong(walk.next, "is not there"));
    walk.next = head.floor;
    walk.previous.reset();
    if (walk.over()) return std::vector<LogEntry>();
    got = log.read(walk.next, bytes_max);
    // Trimmed once more: the next call finds out.
    if (!got && got.error().is(Errc::not_found)) return std::vector<LogEntry>();
  }
  if (!got) return got;
  if (got.value().empty()) return failure(wrong(walk.next, "is not there: the log ends before it"));
  return got;
}

result<void> check(const LogEntry& entry, const JournalId& journal, EntryOpener& opener,
                   const LogWalk& walk) {
  if (entry.header.sequence != walk.next || entry.header.journal != journal) {
    return failure(wrong(walk.next, "is not there, another one is in its place"));
  }
  if (walk.previous && entry.header.previous != *walk.previous) {
    return failure(wrong(walk.next, "does not follow the one before it"));
  }
  if (!opener.open(entry)) return failure(wrong(walk.next, "was not sealed by this cloud"));
  if (walk.next == walk.end.sequence && entry.hash != walk.end.hash) {
    return failure(wrong(walk.next, "is of another history"));
  }
  return success();
}

}  // namespace

result<WalkedPiece> walk_log(LogStore& log, const JournalId& journal, EntryOpener& opener,
                             LogWalk& walk, size_t bytes_max) {
  WalkedPiece piece;
  if (walk.over()) return piece;
  TRY(const auto entries, read_piece(log, walk, bytes_max));
  for (const LogEntry& entry : entries) {
    if (walk.over()) break;
    TRY(check(entry, journal, opener, walk));
    ++piece.entries;
    piece.bytes += entry.bytes->size();
    if (entry.header.kind == EntryKind::root) piece.roots.push_back(entry);
    walk.previous = entry.hash;
    ++walk.next;
  }
  return piece;
}

}  // namespace datacloud::journal
