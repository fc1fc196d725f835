#include "daemon/service/inline_room.h"

#include "common/base/log.h"
#include "daemon/metadata/record_keys.h"

namespace datacloud {
namespace {

constexpr size_t kInlineRecordsPerStep = 500;
constexpr Duration kCountPause = seconds(10);

}  // namespace

bool InlineRoom::takes(uint64_t bytes) {
  const bool room = bytes <= bytes_max_ && used_ <= bytes_max_ - bytes;
  const bool pause = ever_counted_ && loop_.now() - counted_at_ < kCountPause;
  if (!counting_ && !pause && (!room || !ever_counted_)) begin_count();
  if (!room) return false;
  used_ += bytes;
  since_ += bytes;
  return true;
}

void InlineRoom::begin_count() {
  counting_ = true;
  counted_ = since_ = 0;
  position_ = key::inline_block(0, 0).substr(0, 1);
  loop_.post([this, alive = std::weak_ptr(alive_)] {
    if (!alive.expired()) count_step();
  });
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
  ever_counted_ = true;
  counted_at_ = loop_.now();
  if (scanned) used_ = counted_ + since_;
}

}  // namespace datacloud
