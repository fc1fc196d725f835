// Bounds what a log can grow by: similar lines (equal but for their digits) are let through in a
// burst and then at a slow rate; what was left out is counted and said.
//
// A broken site or a hostile peer can cause the same warning a thousand times a second; the disk
// that holds the log must survive that, and the first lines, which tell the cause, must stay.
// Critical lines always pass. Not thread safe: a sink's mutex guards it.
#pragma once

#include <cstdint>
#include <list>
#include <string>
#include <string_view>
#include <unordered_map>

#include "common/base/clock.h"

namespace datacloud {

class LogLimit {
 public:
  static constexpr uint32_t kBurst = 10;           // lines of one kind at once
  static constexpr Duration kRefill = seconds(6);  // one more line of a kind
  static constexpr size_t kKindsMax = 256;         // the least recent kind is forgotten

  explicit LogLimit(uint32_t burst = kBurst, Duration refill = kRefill)
      : burst_(burst), refill_(refill) {}

  struct Verdict {
    bool pass = true;
    uint64_t left_out = 0;  // similar lines since the last that passed; said with this one
  };
  Verdict judge(std::string_view line, MonotonicTime now);
  uint64_t left_out_total() const { return left_out_total_; }

 private:
  struct Kind {
    std::string shape;
    uint32_t tokens = 0;
    MonotonicTime refilled{};
    uint64_t left_out = 0;
  };
  const uint32_t burst_;
  const Duration refill_;
  std::list<Kind> kinds_;  // the most recent first
  std::unordered_map<std::string_view, std::list<Kind>::iterator> by_shape_;
  uint64_t left_out_total_ = 0;
};

}  // namespace datacloud
