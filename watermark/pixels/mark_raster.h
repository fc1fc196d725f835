// The picture of a mark: colours, and where it covers (alpha of at least one half).
#pragma once

#include <array>
#include <cstdint>

#include "common/base/bytes.h"
#include "common/base/error.h"

namespace datacloud::watermark {

inline constexpr uint32_t kMarkSideMax = 4096;
inline constexpr uint64_t kMarkPixelsMax = uint64_t{1} << 22;

using MarkHash = std::array<uint8_t, 32>;

struct MarkRaster {
  uint32_t width = 0, height = 0;
  Bytes rgba;  // rows of width pixels of R, G, B, A; A is 0 or 255, and where it is 0 all are 0

  // SHA-256 of what the fields say; equal pictures have equal hashes.
  MarkHash hash() const;
};

// From any RGBA pixels; invalid when a side is 0 or beyond the limits above, or nothing is covered.
result<MarkRaster> make_mark_raster(uint32_t width, uint32_t height, Bytes rgba);

// For marked files: the pixels compressed, and back. unpack is bounded by width and height and
// refuses (corrupt) whatever pack would not have written.
Bytes pack_mark(const MarkRaster&);
result<MarkRaster> unpack_mark(uint32_t width, uint32_t height, ByteView packed);

}  // namespace datacloud::watermark
