// Token buckets by the shape of a line (log_limit.h).
#include "common/base/log_limit.h"

#include <algorithm>
#include <utility>

namespace datacloud {
namespace {

constexpr size_t kShapeBytesMax = 160;

// The line without what differs from one occurrence to the next: numbers, decimal or hexadecimal.
std::string shape_of(std::string_view line) {
  std::string shape;
  for (const char c : line.substr(0, kShapeBytesMax)) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit) {
      shape += c;
    } else if (shape.empty() || shape.back() != '#') {
      shape += '#';
    }
  }
  return shape;
}

}  // namespace

LogLimit::Verdict LogLimit::judge(std::string_view line, MonotonicTime now) {
  std::string shape = shape_of(line);
  auto found = by_shape_.find(shape);
  if (found == by_shape_.end()) {
    if (kinds_.size() >= kKindsMax) {
      by_shape_.erase(kinds_.back().shape);
      kinds_.pop_back();
    }
    kinds_.push_front({std::move(shape), burst_, now, 0});
    found = by_shape_.emplace(kinds_.front().shape, kinds_.begin()).first;
  } else {
    kinds_.splice(kinds_.begin(), kinds_, found->second);
  }
  Kind& kind = *found->second;
  const auto refills = static_cast<uint64_t>((now - kind.refilled) / refill_);
  if (refills > 0) {
    kind.tokens = static_cast<uint32_t>(std::min<uint64_t>(burst_, kind.tokens + refills));
    kind.refilled = now;
  }
  if (kind.tokens == 0) {
    kind.left_out++;
    left_out_total_++;
    return {false, 0};
  }
  kind.tokens--;
  return {true, std::exchange(kind.left_out, 0)};
}

}  // namespace datacloud
