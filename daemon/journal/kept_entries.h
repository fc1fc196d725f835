// The newest entries of a log in memory, for sites that lack them: all that are not committed, and
// of the others so many bytes. Pure.
#pragma once

#include <deque>

#include "daemon/journal/log_entry.h"

namespace datacloud::journal {

class KeptEntries {
 public:
  explicit KeptEntries(uint64_t bytes_max) : bytes_max_(bytes_max) {}

  // Nothing is kept; the next entry has this sequence.
  void start(uint64_t first) {
    entries_.clear();
    first_ = first;
    bytes_ = dropped_bytes_ = 0;
  }
  void push(LogEntry entry) {
    bytes_ += entry.bytes->size();
    entries_.push_back({std::move(entry), bytes_});
  }

  uint64_t first() const { return first_; }
  bool has(uint64_t sequence) const {
    return sequence >= first_ && sequence - first_ < entries_.size();
  }
  const LogEntry& at(uint64_t sequence) const { return entries_[sequence - first_].entry; }

  // Of the entries kept with a sequence above this one.
  uint64_t bytes_after(uint64_t sequence) const {
    if (sequence < first_) return bytes_ - dropped_bytes_;
    return has(sequence) ? bytes_ - entries_[sequence - first_].end : 0;
  }

  // Drops what all sites have, and the oldest of what is committed beyond the bound.
  void drop(uint64_t committed, uint64_t at_all_sites) {
    while (!entries_.empty() && first_ <= committed) {
      const uint64_t kept =
          (has(committed) ? entries_[committed - first_].end : bytes_) - dropped_bytes_;
      if (first_ > at_all_sites && kept <= bytes_max_) break;
      dropped_bytes_ = entries_.front().end;
      entries_.pop_front();
      ++first_;
    }
  }

 private:
  struct Kept {
    LogEntry entry;
    uint64_t end;  // bytes pushed up to and with this one
  };
  const uint64_t bytes_max_;
  uint64_t first_ = 1;
  uint64_t bytes_ = 0;  // pushed
  uint64_t dropped_bytes_ = 0;
  std::deque<Kept> entries_;
};

}  // namespace datacloud::journal
