// Where earlier reads of a site's log have ended, so that the next one need not begin at the start
// of the segment: who follows a log, or asks for its head again and again, reads only what is new.
//
// Segments are only ever appended to, and their names are never used twice: the valid entries up to
// a mark stay what they were. What a later segment has superseded lies behind that segment's
// `previous bytes`; a mark beyond is not used.
//
// Threading: all methods from any thread.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

#include "daemon/journal/log_position.h"

namespace datacloud::journal {

class ReadMarks {
 public:
  struct Mark {
    LogPosition last;    // a valid entry of the segment
    uint64_t bytes = 0;  // behind the header, up to its end
  };
  // The furthest mark in this segment that is in front of `sequence` and within `limit` bytes.
  std::optional<Mark> before(const std::string& segment, uint64_t sequence, uint64_t limit) {
    std::lock_guard lock(mutex_);
    Kept* best = nullptr;
    for (auto& kept : kept_) {
      if (kept.segment != segment || kept.mark.last.sequence >= sequence || kept.mark.bytes > limit)
        continue;
      if (best == nullptr || kept.mark.bytes > best->mark.bytes) best = &kept;
    }
    if (best == nullptr) return std::nullopt;
    best->used = ++uses_;
    return best->mark;
  }
  // A read has come that far. The mark from which it began moves; else the one longest unused goes.
  void note(const std::string& segment, const std::optional<Mark>& from, const Mark& to) {
    if (to.bytes == 0) return;
    std::lock_guard lock(mutex_);
    Kept* place = &kept_[0];
    for (auto& kept : kept_) {
      if (from && kept.segment == segment && kept.mark.bytes == from->bytes) {
        place = &kept;
        break;
      }
      if (kept.used < place->used) place = &kept;
    }
    *place = {segment, to, ++uses_};
  }

 private:
  struct Kept {
    std::string segment;
    Mark mark;
    uint64_t used = 0;
  };
  std::mutex mutex_;
  std::array<Kept, 8> kept_;  // a few readers: the leader, its standbys
  uint64_t uses_ = 0;
};

}  // namespace datacloud::journal
