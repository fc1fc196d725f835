// CRC-32C (Castagnoli): detects accidents in what we store ourselves, never tampering.
#pragma once

#include <cstdint>

#include "common/base/bytes.h"

namespace datacloud {

// Continues from `crc` (0 to start), so that crc32c(b, crc32c(a)) is the sum of a followed by b.
uint32_t crc32c(ByteView, uint32_t crc = 0);

}  // namespace datacloud
