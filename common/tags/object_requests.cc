// Bounds of requests, and ranges without overlaps.
#include "common/tags/object_requests.h"

#include <algorithm>

namespace datacloud {
namespace {

bool within(const std::vector<XorRange>& ranges, uint64_t bytes) {
  return std::all_of(ranges.begin(), ranges.end(), [bytes](const XorRange& range) {
    return range.bytes.size() <= bytes && range.offset <= bytes - range.bytes.size();
  });
}

}  // namespace

const char* fault_of(const Derivation& d) {
  if (d.size > kObjectBytesMax) return "larger than 64 MiB";
  if (d.instance == d.source_instance) return "a derived object needs an instance of its own";
  if (d.data.size() > kXorRangesMax || d.tags.size() > kXorRangesMax) {
    return "more than 16384 ranges to XOR";
  }
  if (!within(d.data, d.size)) return "a range of data beyond its end";
  if (!within(d.tags, kFieldBytes * audit_blocks_of(d.size)))
    return "a range of tags beyond its end";
  return nullptr;
}

const char* fault_of(const Combination& c) {
  if (c.ranges.empty() || c.ranges.size() > kCombinationRangesMax || c.coefficients.empty() ||
      c.coefficients.size() > kCombinationOutputsMax) {
    return "a combination needs 1 to 256 ranges and outputs";
  }
  const uint64_t length = c.ranges[0].length;
  if (length > kObjectBytesMax / std::max(c.ranges.size(), c.coefficients.size())) {
    return "more than 64 MiB combined";
  }
  for (const auto& range : c.ranges) {
    if (range.length != length) return "ranges of several lengths combined";
  }
  for (const auto& row : c.coefficients) {
    if (row.size() != c.ranges.size()) return "a combination needs one coefficient for each range";
  }
  return nullptr;
}

const char* fault_of(const AuditChallenge& challenge) {
  return challenge.blocks_total > kAuditBlocksMax ? "a challenge over more than 64 MiB" : nullptr;
}

std::vector<XorRange> coalesce(const std::vector<XorRange>& ranges) {
  std::vector<const XorRange*> sorted;
  for (const auto& range : ranges) {
    if (!range.bytes.empty()) sorted.push_back(&range);
  }
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto* a, const auto* b) { return a->offset < b->offset; });
  std::vector<XorRange> out;
  for (const auto* range : sorted) {
    if (out.empty() || range->offset > out.back().offset + out.back().bytes.size()) {
      out.push_back(*range);
      continue;
    }
    auto& last = out.back();
    const size_t start = range->offset - last.offset;
    last.bytes.resize(std::max(last.bytes.size(), start + range->bytes.size()));
    for (size_t i = 0; i < range->bytes.size(); ++i) last.bytes[start + i] ^= range->bytes[i];
  }
  return out;
}

}  // namespace datacloud
