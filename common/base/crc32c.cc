// CRC-32C by ISA-L, in pieces that fit its int length.
#include "common/base/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>

namespace datacloud {

uint32_t crc32c(ByteView data, uint32_t crc) {
  uint32_t state = ~crc;
  while (!data.empty()) {
    const size_t n = std::min<size_t>(data.size(), 1u << 30);
    state = crc32_iscsi(const_cast<uint8_t*>(data.data()), static_cast<int>(n), state);
    data = data.subspan(n);
  }
  return ~state;
}

}  // namespace datacloud
