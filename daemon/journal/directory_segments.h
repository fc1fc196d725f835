// The segments of the journal at a directory site, as anybody reads them. docs/journal.md.
//
// Files segment-CLAIM-NUMBER: the claim's index and a number that grows with each segment of it. A
// file without a header is one that was being made. The newest with a header ends the log; the
// others are reached by `previous` only: what nobody points to was left by somebody superseded.
//
// Thread safety: all methods from any thread; no state but the directory.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/file_layer.h"
#include "daemon/journal/read_marks.h"
#include "daemon/journal/segment_format.h"

namespace datacloud::journal {

inline constexpr size_t kSegmentsMax = 4096;  // of a log, and of names that are looked at

struct DirectorySegment {
  std::string name;
  uint64_t claim = 0, number = 0;
  SegmentHeader header;
  uint64_t limit = UINT64_MAX;  // bytes behind the header that belong to the log
};

class DirectorySegments {
 public:
  // Entries begin here: the header has a page of its own.
  static constexpr uint64_t kEntriesOffset = kWriteThroughBytes;

  DirectorySegments(std::shared_ptr<FileLayer>, std::string directory);

  std::string path(const std::string& name) const { return directory_ + "/" + name; }
  static std::string name_of(uint64_t claim, uint64_t number);
  // All names, the newest first; of files without a header too.
  result<std::vector<DirectorySegment>> names();
  // The log's segments, the newest first, down to the one that holds `from` or to where the log
  // begins. corrupt: one is missing that must be there.
  result<std::vector<DirectorySegment>> chain(const JournalId&, uint64_t from);
  // The valid entries of a segment, behind `from` if that is given, in order, until `sink` returns
  // false. Returns where they end, with their bytes.
  struct End {
    LogPosition last;
    uint64_t bytes = 0;
  };
  result<End> scan(const DirectorySegment&, const std::function<bool(LogEntry)>& sink,
                   const std::optional<ReadMarks::Mark>& from = {});

  // Makes a segment: its file full of zeros, then the header. Durable on success, with its name.
  // A failure may have made it, or make it later: its name is not used again.
  result<void> make(const std::string& name, const SegmentHeader&, uint64_t bytes);

 private:
  result<std::optional<SegmentHeader>> header_of(const std::string& name);

  const std::shared_ptr<FileLayer> files_;
  const std::string directory_;
};

}  // namespace datacloud::journal
