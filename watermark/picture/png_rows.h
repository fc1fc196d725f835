// Rows of PNG: passes of interlaced pictures, filters, and compression into IDAT chunks.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/bytes.h"

namespace datacloud::watermark {

// Of one pass: its pixels are those at x0 + i dx, y0 + j dy.
struct PngPass {
  uint32_t x0 = 0, y0 = 0, dx = 1, dy = 1;
  uint32_t width = 0, height = 0;  // pixels of the pass; never 0
};
using PngPasses = std::vector<PngPass>;

// One pass for ordinary pictures, up to seven (Adam7) for interlaced ones.
PngPasses png_passes(uint32_t width, uint32_t height, bool interlaced);

// Writes `row` filtered by `filter` (0..4) to `out`, of the same length. `above`: the row above in
// the same pass, or zeros.
void png_filter(uint8_t filter, size_t pixel_bytes, ByteView row, ByteView above,
                MutableByteView out);

// The filter with the smallest sum of absolute differences, as the specification recommends. `out`
// holds the row filtered by it; `scratch` is overwritten.
uint8_t png_choose_filter(size_t pixel_bytes, ByteView row, ByteView above, Bytes& out,
                          Bytes& scratch);

}  // namespace datacloud::watermark
