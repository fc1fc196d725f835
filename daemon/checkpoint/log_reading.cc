// See log_reading.h.
#include "daemon/checkpoint/log_reading.h"

#include <fmt/format.h>

#include <utility>

namespace datacloud {

result<void> read_entries(journal::LogStore& log, const journal::JournalId& id, uint64_t from,
                          std::optional<journal::LogPosition> before,
                          const std::function<result<void>(const journal::LogEntry&)>& visit) {
  for (;;) {
    TRY(const auto entries, log.read(from, journal::kReadBytesMax));
    if (entries.empty()) return success();
    for (const auto& entry : entries) {
      const bool follows = before ? journal::continues(entry, id, *before)
                                  : entry.header.journal == id && entry.header.sequence == from;
      if (!follows) {
        return failure(Errc::corrupt, fmt::format("entry {} of the journal does not follow the one "
                                                  "in front of it",
                                                  entry.header.sequence));
      }
      TRY(visit(entry));
      before = entry.position();
    }
    from = before->sequence + 1;
  }
}

result<std::optional<BatchReader::Batch>> TransactionReader::add(const journal::LogEntry& entry) {
  TRY(auto batch, batches_.add(entry));
  if (entry.header.kind == journal::EntryKind::opening) open_ = false;
  if (entry.header.kind == journal::EntryKind::data) open_ = !batch;
  return batch;
}

}  // namespace datacloud
