// Segments of the journal as bytes: their header, and the entries behind it. Pure;
// docs/journal.md, "Segment".
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "daemon/journal/log_entry.h"
#include "daemon/journal/read_marks.h"

namespace datacloud::journal {

inline constexpr size_t kSegmentHeaderBytes = 512;
inline constexpr size_t kSegmentNameBytesMax = 90;
inline constexpr size_t kAppendUnitMax = 65536;

// A segment holds the entries after `base`, written by one epoch. Its log goes on in `previous`,
// of which only `previous_bytes` bytes belong to it: what is behind them is another history.
struct SegmentHeader {
  JournalId journal{};
  Epoch epoch;
  uint64_t ordinal = 0;  // grows by 1 from segment to segment of a site's log
  uint32_t unit = 512;   // appends are padded with zeros to multiples of it
  LogPosition base;
  std::string previous;  // empty: none; what is before `base` is in a checkpoint
  uint64_t previous_bytes = 0;
  bool operator==(const SegmentHeader&) const = default;
};

Bytes encode_segment_header(const SegmentHeader&);
result<SegmentHeader> decode_segment_header(ByteView);  // corrupt

// Finds the valid entries of a segment whose bytes come in pieces: those that continue the log
// from `base` on, up to the first that does not.
class SegmentScanner {
 public:
  // `limit`: bytes behind the header that belong to the log, UINT64_MAX when that is open.
  // `start`: a valid entry, and where it ends; what is fed begins behind it.
  SegmentScanner(const SegmentHeader&, uint64_t limit,
                 const std::optional<ReadMarks::Mark>& start = {});
  using Sink = std::function<void(LogEntry)>;
  // False when the log ends in what was fed: later bytes say nothing.
  bool feed(ByteView, const Sink&);

  const LogPosition& last() const { return last_; }
  // Bytes behind the header up to the end of the last valid entry.
  uint64_t valid_bytes() const { return valid_; }

 private:
  bool skip_padding();
  ByteView unread() const { return ByteView(pending_).subspan(consumed_); }
  void consume(uint64_t bytes) {
    consumed_ += bytes;
    offset_ += bytes;
  }

  const JournalId journal_;
  const Epoch epoch_;
  const uint64_t unit_, limit_;
  LogPosition last_;
  uint64_t valid_ = 0;
  uint64_t offset_ = 0;  // of the first unread byte in pending_
  Bytes pending_;
  size_t consumed_ = 0;  // of pending_: taken out once per feed(), for moving the rest costs more
  bool ended_ = false;
};

}  // namespace datacloud::journal
