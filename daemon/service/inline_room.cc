#include "daemon/service/inline_room.h"

#include <algorithm>
#include <chrono>

#include "common/base/log.h"
#include "daemon/metadata/record_keys.h"

namespace datacloud {
namespace {

constexpr size_t kInlineRecordsPerStep = 500;
constexpr Duration kCountPause = seconds(10);
constexpr Duration kBurst = seconds(1);  // of the rate, after a pause

}  // namespace

bool InlineRoom::takes(uint64_t bytes) {
  const auto has_room = [&] {
    return bytes <= limits_.bytes_max && used_ <= limits_.bytes_max - bytes;
  };
  count_if_due(!has_room());
  if (!ever_counted_ || !has_room() || !in_time(bytes)) return false;
  add(bytes);
  return true;
}

void InlineRoom::add(uint64_t bytes) {
  used_ += bytes;
  since_ += bytes;
}

// A second's worth may come at once.
bool InlineRoom::in_time(uint64_t bytes) {
  if (limits_.bytes_per_second_max == 0) return true;
  const auto now = loop_.now();
  if (free_at_ > now) return false;
  const std::chrono::duration<double> takes_time(static_cast<double>(bytes) /
                                                 static_cast<double>(limits_.bytes_per_second_max));
  free_at_ = std::max<MonotonicTime>(free_at_, now - kBurst) +
             std::chrono::duration_cast<Duration>(takes_time);
  return true;
}

void InlineRoom::count_if_due(bool no_room) {
  const bool pause = loop_.now() - counted_at_ < kCountPause;
  if (counting_ || !ever_counted_ || pause) return;
  if (no_room || since_ > limits_.bytes_max / 4) begin_count();
}

// Where there is little it has ended on return.
void InlineRoom::begin_count() {
  counting_ = true;
  counted_ = since_ = 0;
  position_ = key::inline_block(0, 0).substr(0, 1);
  count_step();
}

// `V` and `W` are neighbours among the records.
void InlineRoom::count_step() {
  size_t seen = 0;
  bool more = false;
  const std::string end = key::after_prefix(key::patch(0, 0, 0).substr(0, 1));
  const auto scanned =
      store_.begin().scan(position_, end, [&](std::string_view k, std::string_view v) {
        if (seen++ == kInlineRecordsPerStep) {
          position_ = k;
          more = true;
          return false;
        }
        counted_ += v.size();
        return true;
      });
  if (!scanned) spdlog::error("counting bytes in the records: {}", scanned.error().message());
  if (scanned && more) {
    loop_.post([this, alive = std::weak_ptr(alive_)] {
      if (!alive.expired()) count_step();
    });
    return;
  }
  counting_ = false;
  counted_at_ = loop_.now();
  if (!scanned) {  // what is known stays; at the start nothing is, and it is tried again
    if (!ever_counted_)
      loop_.after(kCountPause, [this, alive = std::weak_ptr(alive_)] {
        if (!alive.expired()) begin_count();
      });
    return;
  }
  ever_counted_ = true;
  used_ = counted_ + since_;
}

}  // namespace datacloud
