// Entries of the journal and segments full of them, as they come from a site.
#include <algorithm>

#include "daemon/journal/log_bytes.h"
#include "daemon/journal/segment_format.h"
#include "tests/fuzz/fuzz_target.h"

namespace datacloud::fuzz {
namespace journal_entry_input {

using namespace journal;

LogEntry entry_after(const LogPosition& last, size_t bytes) {
  EntryHeader header;
  header.epoch = {3, 7};
  header.sequence = last.sequence + 1;
  header.previous = last.hash;
  return encode_entry(header, Bytes(bytes, 'x')).value();
}

void run(ByteView input) {
  if (const auto entry = decode_entry(input)) {
    const LogEntry& e = entry.value();
    require(e.bytes->size() <= input.size() && e.bytes->size() % kEntryPaddingBytes == 0,
            "an entry is within what it was read from");
    const auto again = encode_entry(e.header, e.body());
    require(again && *again.value().bytes == *e.bytes, "an entry has one spelling");
  }
  SegmentHeader header;
  header.epoch = {3, 9};
  header.unit = 4096;
  SegmentScanner scanner(header, UINT64_MAX);
  LogPosition last;
  size_t piece = 1;
  for (ByteView rest = input; !rest.empty();) {
    const size_t n = std::min(piece, rest.size());
    piece = piece * 7 % 4999 + 1;
    const bool more = scanner.feed(rest.first(n), [&](LogEntry entry) {
      require(continues(entry, header.journal, last), "a scan yields a chain");
      last = entry.position();
    });
    if (!more) break;
    rest = rest.subspan(n);
  }
  require(scanner.valid_bytes() <= input.size(), "valid bytes were there");
  require(scanner.last() == last, "the scan ends at its last entry");
}

std::vector<Bytes> seeds() {
  std::vector<Bytes> out;
  LogPosition last;
  Bytes all;
  for (const size_t bytes : {0u, 5u, 416u, 417u, 9000u}) {
    const LogEntry entry = entry_after(last, bytes);
    last = entry.position();
    out.push_back(*entry.bytes);
    all.insert(all.end(), entry.bytes->begin(), entry.bytes->end());
    if (bytes == 5) all.resize(round_up(all.size(), 4096), 0);
  }
  out.push_back(all);
  return out;
}

}  // namespace journal_entry_input

FuzzTarget journal_entry_target() {
  return {"journal_entry", journal_entry_input::run, journal_entry_input::seeds};
}

}  // namespace datacloud::fuzz
