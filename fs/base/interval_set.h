// A set of half-open ranges [first, end) of numbers, kept merged. For block maps ("what is known")
// and shards ("what has been read"). Pure; not synchronised.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <utility>
#include <vector>

namespace datacloud {

class IntervalSet {
 public:
  using Interval = std::pair<uint64_t, uint64_t>;  // first, end

  void add(uint64_t first, uint64_t end) {
    if (first >= end) return;
    auto it = ranges_.upper_bound(first);
    if (it != ranges_.begin() && std::prev(it)->second >= first) --it;
    while (it != ranges_.end() && it->first <= end) {
      first = std::min(first, it->first);
      end = std::max(end, it->second);
      it = ranges_.erase(it);
    }
    ranges_.emplace(first, end);
  }

  void remove(uint64_t first, uint64_t end) {
    if (first >= end) return;
    auto it = ranges_.upper_bound(first);
    if (it != ranges_.begin() && std::prev(it)->second > first) --it;
    while (it != ranges_.end() && it->first < end) {
      const Interval old = *it;
      it = ranges_.erase(it);
      if (old.first < first) ranges_.emplace(old.first, first);
      if (old.second > end) ranges_.emplace(end, old.second);
    }
  }

  // End of the stretch that starts at `at` and is wholly inside; `at` itself when it is outside.
  uint64_t end_of(uint64_t at) const {
    auto it = ranges_.upper_bound(at);
    if (it == ranges_.begin()) return at;
    --it;
    return it->second > at ? it->second : at;
  }

  bool contains(uint64_t first, uint64_t end) const { return first >= end || end_of(first) >= end; }

  // The parts of [first, end) that are not in the set.
  std::vector<Interval> gaps(uint64_t first, uint64_t end) const {
    std::vector<Interval> out;
    while (first < end) {
      const uint64_t known = end_of(first);
      if (known > first) {
        first = known;
        continue;
      }
      const auto next = ranges_.upper_bound(first);
      const uint64_t stop = next == ranges_.end() ? end : std::min(end, next->first);
      out.emplace_back(first, stop);
      first = stop;
    }
    return out;
  }

  bool empty() const { return ranges_.empty(); }
  void clear() { ranges_.clear(); }

 private:
  std::map<uint64_t, uint64_t> ranges_;
};

}  // namespace datacloud
