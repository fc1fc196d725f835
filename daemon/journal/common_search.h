// Finds the last entry that two logs have in common, by comparing the hashes of few entries: each
// hash covers all entries before it, so where two logs agree they agree on everything before. Pure.
#pragma once

#include <cstdint>
#include <optional>

namespace datacloud::journal {

class CommonSearch {
 public:
  // Sequences low..high can be compared; none when high < low.
  CommonSearch(uint64_t low, uint64_t high) : low_(low), high_(high), done_(high < low) {}

  // The sequence to compare next; none once it is done.
  std::optional<uint64_t> next() const {
    if (done_) return std::nullopt;
    if (!ends_) return high_;
    if (!common_) return low_;
    return low_ + (high_ - low_) / 2;
  }

  // Whether the logs agree at next(). That which is common is below high_ from the second on.
  void compared(bool same) {
    const uint64_t at = *next();
    if (same) common_ = at;
    if (!ends_) {
      ends_ = true;
      done_ = same || low_ == high_;
    } else if (same) {
      low_ = at + 1;
    } else {
      high_ = at;
      done_ = !common_;
    }
    done_ = done_ || (common_ && low_ >= high_);
  }

  // Once next() is none: the last sequence at which they agree; none: they cannot be compared, or
  // differ from the start.
  const std::optional<uint64_t>& common() const { return common_; }

 private:
  uint64_t low_, high_;  // the first difference is in [low_, high_] once common_ and ends_ are set
  bool ends_ = false;    // high_ was compared
  bool done_;
  std::optional<uint64_t> common_;
};

}  // namespace datacloud::journal
