// The segments of the journal as guarded objects, as anybody reads them. docs/journal.md.
//
// A segment is an object: its entries are its bytes, everything else its attributes, changed
// together with the bytes in one operation. The anchor names a segment from which the newest is
// reached by following `successor`. A name that is gone was trimmed: the anchor is asked again.
//
// Thread safety: all methods from any thread; they block.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/store/guarded_objects.h"
#include "daemon/journal/read_marks.h"
#include "daemon/journal/segment_format.h"

namespace datacloud::journal {

// Names begin with a dot: listings of the site's objects do not show them.
inline constexpr const char* kAnchorName = ".journal";
inline constexpr const char* kNoSuccessor = "none";
inline constexpr const char* kSealed = "sealed";

struct GuardedSegment {
  std::string name;
  SegmentHeader header;
  Epoch promised;
  LogPosition last;
  uint64_t floor = 1;
  std::string successor = kNoSuccessor;  // or kSealed, or the name of the next segment
  uint64_t size = 0;
  uint64_t limit = UINT64_MAX;  // bytes that belong to the log
};

// The attributes a new segment has, without appends.
Attributes segment_attributes(const GuardedSegment&);
// What an append or a claim changes of them.
Attributes position_attributes(const LogPosition&);
Attributes promise_attributes(const Epoch&);
// Holds while the epoch is promised and the segment is the last one.
std::vector<AttributeGuard> leader_guards(const Epoch&);
AttributeGuard next_guard(uint64_t sequence);

class GuardedSegments {
 public:
  GuardedSegments(GuardedObjects&, const JournalId&);

  // The anchor and the first segment, of no epoch. exists: there is a journal.
  result<void> format();
  result<GuardedSegment> get(const std::string& name);
  // The last segment. `hint`: one that is nearer than the anchor's, or empty. away: no journal.
  result<GuardedSegment> tail(const std::string& hint);
  // From `tail` back to the segment that holds `from`, or to where the log begins; the newest
  // first.
  result<std::vector<GuardedSegment>> chain(const GuardedSegment& tail, uint64_t from);
  struct End {
    LogPosition last;
    uint64_t bytes = 0;
  };
  // The valid entries, behind `from` if that is given, in order, until `sink` returns false.
  result<End> scan(const GuardedSegment&, const std::function<bool(LogEntry)>& sink,
                   const std::optional<ReadMarks::Mark>& from = {});
  // The anchor names this segment from now on, unless it names a later one.
  result<void> move_anchor(const GuardedSegment&);

  result<void> create(const GuardedSegment&);
  result<void> change(const std::string& name, GuardedChange);
  result<void> remove(const std::string& name);  // success when it is not there

 private:
  result<ObjectView> view(const std::string& name, ByteRange);

  GuardedObjects& objects_;
  const JournalId journal_;
};

}  // namespace datacloud::journal
