// Byte ranges of shards: which to ask for, and what has been read of one shard so far. Pure
// bookkeeping, no I/O; not synchronised.
//
// Invariant of ShardRanges: pieces do not overlap, so no byte of a shard is kept (or read) twice.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "common/base/bytes.h"
#include "common/store/object_store.h"
#include "fs/base/interval_set.h"

namespace datacloud {

inline constexpr uint64_t kRangeGapBytesMax = 64u << 10;  // read rather than skipped
// Of one store call: large enough for a disk or a round trip, small enough that the first blocks of
// a long read are opened while the next are on their way (4 MiB halves cold throughput).
inline constexpr uint64_t kReadCallBytesMax = 1u << 20;

inline uint64_t end_of(const ByteRange& r) { return r.offset + r.length; }

// Merges ranges that touch or leave a gap of at most `gap_max`; no result exceeds `bytes_max`
// unless a single input does. Input in any order; output ascends.
std::vector<ByteRange> coalesce(std::vector<ByteRange> ranges, uint64_t gap_max,
                                uint64_t bytes_max);

class ShardRanges {
 public:
  explicit ShardRanges(uint64_t length = 0) : length_(length) {}

  // Bytes at and beyond length() are zeros by definition: always known, never read.
  uint64_t length() const { return length_; }
  ByteRange clip(const ByteRange&) const;

  void add(uint64_t offset, SharedBytes bytes);
  bool covers(const ByteRange&) const;
  std::vector<IntervalSet::Interval> missing(const ByteRange&) const;

  // The range, which must be covered; zeros beyond length(). Points into a piece kept alive by
  // `owners`, or into a copy put there when no single piece holds it all.
  ByteView view(const ByteRange&, std::vector<SharedBytes>& owners) const;

 private:
  uint64_t length_;
  IntervalSet known_;
  std::map<uint64_t, SharedBytes> pieces_;  // by offset
};

}  // namespace datacloud
