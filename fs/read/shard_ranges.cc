// Range arithmetic of shard reads.
#include "fs/read/shard_ranges.h"

#include <algorithm>
#include <cstring>

namespace datacloud {

std::vector<ByteRange> coalesce(std::vector<ByteRange> ranges, uint64_t gap_max,
                                uint64_t bytes_max) {
  std::sort(ranges.begin(), ranges.end(),
            [](const ByteRange& a, const ByteRange& b) { return a.offset < b.offset; });
  std::vector<ByteRange> out;
  for (const ByteRange& r : ranges) {
    if (r.length == 0) continue;
    if (!out.empty() && r.offset <= end_of(out.back()) + gap_max) {
      const uint64_t merged = std::max(end_of(out.back()), end_of(r)) - out.back().offset;
      // Overlapping inputs merge whatever the size: no byte is to be asked for twice.
      if (merged <= bytes_max || r.offset < end_of(out.back())) {
        out.back().length = merged;
        continue;
      }
    }
    out.push_back(r);
  }
  return out;
}

ByteRange ShardRanges::clip(const ByteRange& r) const {
  if (r.offset >= length_) return {length_, 0};
  return {r.offset, std::min(r.length, length_ - r.offset)};
}

void ShardRanges::add(uint64_t offset, SharedBytes bytes) {
  if (bytes->empty() || known_.end_of(offset) > offset) return;
  known_.add(offset, offset + bytes->size());
  pieces_.emplace(offset, std::move(bytes));
}

bool ShardRanges::covers(const ByteRange& r) const {
  const ByteRange c = clip(r);
  return known_.contains(c.offset, end_of(c));
}

std::vector<IntervalSet::Interval> ShardRanges::missing(const ByteRange& r) const {
  const ByteRange c = clip(r);
  return known_.gaps(c.offset, end_of(c));
}

ByteView ShardRanges::view(const ByteRange& r, std::vector<SharedBytes>& owners) const {
  const ByteRange c = clip(r);
  auto it = pieces_.upper_bound(c.offset);
  if (it != pieces_.begin()) --it;
  if (c.length == r.length && it != pieces_.end() && it->first <= r.offset &&
      it->first + it->second->size() >= end_of(r)) {
    owners.push_back(it->second);
    return ByteView(*it->second).subspan(r.offset - it->first, r.length);
  }
  auto copy = std::make_shared<Bytes>(r.length, 0);
  for (; it != pieces_.end() && it->first < end_of(c); ++it) {
    const uint64_t from = std::max(it->first, c.offset);
    const uint64_t to = std::min(it->first + it->second->size(), end_of(c));
    if (from >= to) continue;
    std::memcpy(copy->data() + (from - r.offset), it->second->data() + (from - it->first),
                to - from);
  }
  owners.push_back(copy);
  return ByteView(*owners.back());
}

}  // namespace datacloud
