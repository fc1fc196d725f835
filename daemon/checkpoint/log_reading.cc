// See log_reading.h.
#include "daemon/checkpoint/log_reading.h"

#include <fmt/format.h>

#include <future>
#include <utility>
#include <vector>

namespace datacloud {
namespace {

constexpr size_t kAheadBytes = journal::kReadBytesMax / 2;

}  // namespace

result<void> read_entries(journal::LogStore& log, const journal::JournalId& id, uint64_t from,
                          std::optional<journal::LogPosition> before,
                          const std::function<result<void>(const journal::LogEntry&)>& visit) {
  using Entries = result<std::vector<journal::LogEntry>>;
  const auto ask = [&log](uint64_t next) -> Entries {
    return log.read(next, journal::kReadBytesMax);
  };
  Entries entries = ask(from);
  for (;;) {
    TRY(const auto now, std::move(entries));
    if (now.empty()) return success();
    // A site is asked for the next ones while these are visited; not for what is at its end.
    size_t bytes = 0;
    for (const auto& entry : now) bytes += entry.bytes->size();
    std::future<Entries> ahead;
    if (bytes >= kAheadBytes) {
      ahead = std::async(std::launch::async, ask, now.back().header.sequence + 1);
    }
    for (const auto& entry : now) {
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
    entries = ahead.valid() ? ahead.get() : ask(before->sequence + 1);
  }
}

result<std::optional<BatchReader::Batch>> TransactionReader::add(const journal::LogEntry& entry) {
  TRY(auto batch, batches_.add(entry));
  if (entry.header.kind == journal::EntryKind::opening) open_ = false;
  if (entry.header.kind == journal::EntryKind::data) open_ = !batch;
  return batch;
}

}  // namespace datacloud
