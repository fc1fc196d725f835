// The keystream of marked rows: AES-256 in counter mode under the picture's stream key. Each row of
// each band of each surface begins at a counter of its own, so that bands can be done in any order:
//   page u16 | plane u16 | band u24 | row of the band u8 | 0 u64      (big-endian)
//
// Thread safety: one object per thread.
#pragma once

#include <cstdint>
#include <memory>

#include "common/base/bytes.h"
#include "common/crypto/keys.h"

namespace datacloud::watermark {

// Bounds of what the counter can tell apart.
inline constexpr uint32_t kPagesMax = 1u << 16;
inline constexpr uint32_t kPlanesMax = 1u << 16;
inline constexpr uint32_t kBandsMax = 1u << 24;

class RowKeystream {
 public:
  explicit RowKeystream(const SecretKey& stream_key);
  ~RowKeystream();
  RowKeystream(const RowKeystream&) = delete;
  RowKeystream& operator=(const RowKeystream&) = delete;

  // Overwrites `out` with the stream of that row. Aborts beyond the bounds above.
  void row(uint32_t page, uint32_t plane, uint32_t band, uint32_t row, MutableByteView out);

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

}  // namespace datacloud::watermark
