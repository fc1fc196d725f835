// Walks a LevelDB log fragment by fragment until the first that is torn or out of order.
#include "daemon/metadata/log_prefix.h"

#include <algorithm>
#include <cstdint>

#include "common/base/crc32c.h"

namespace datacloud {
namespace {

constexpr size_t kBlockBytes = 32768;
constexpr size_t kHeaderBytes = 7;
enum FragmentType : uint8_t { kFull = 1, kFirst = 2, kMiddle = 3, kLast = 4 };

// LevelDB masks stored checksums so that a log inside a log does not checksum to a constant.
uint32_t masked(uint32_t crc) { return (crc >> 15 | crc << 17) + 0xa282ead8u; }

uint32_t load_u32(const uint8_t* p) {
  return p[0] | static_cast<uint32_t>(p[1]) << 8 | static_cast<uint32_t>(p[2]) << 16 |
         static_cast<uint32_t>(p[3]) << 24;
}

bool all_zero(ByteView bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t b) { return b == 0; });
}

}  // namespace

LogPrefix valid_log_prefix(ByteView log) {
  LogPrefix prefix;
  bool in_record = false;
  size_t at = 0;
  while (at < log.size()) {
    const size_t room = std::min(kBlockBytes - at % kBlockBytes, log.size() - at);
    if (kBlockBytes - at % kBlockBytes < kHeaderBytes) {
      if (!all_zero(log.subspan(at, room))) return prefix;
      at += room;
      continue;
    }
    if (room < kHeaderBytes) return prefix;
    const uint8_t* header = log.data() + at;
    const size_t length = header[4] | static_cast<size_t>(header[5]) << 8;
    const uint8_t type = header[6];
    if (kHeaderBytes + length > room || type < kFull || type > kLast) return prefix;
    if (masked(crc32c(log.subspan(at + 6, 1 + length))) != load_u32(header)) return prefix;
    const bool starts = type == kFull || type == kFirst;
    if (starts == in_record) return prefix;
    at += kHeaderBytes + length;
    in_record = type == kFirst || type == kMiddle;
    if (!in_record) prefix.bytes = at;
  }
  prefix.whole = !in_record;
  return prefix;
}

}  // namespace datacloud
