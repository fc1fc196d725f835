// Rows of a PNG through libpng, from the top. The only file that includes its header is
// png_decoder.cc.
#pragma once

#include <cstdint>
#include <memory>

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "watermark/picture/byte_source.h"

namespace datacloud::watermark {

class PngDecoder {
 public:
  // `source` must live as long as this.
  static result<std::unique_ptr<PngDecoder>> open(const ByteSource& source);
  virtual ~PngDecoder() = default;
  // The next row, in native byte order; of pictures that are not interlaced.
  virtual result<void> next_row(MutableByteView out) = 0;
  // All rows of any picture, instead of next_row.
  virtual result<void> all_rows(size_t row_bytes, MutableByteView out) = 0;
};

// R, G, B, A of 8 bits from any PNG whatever, of at most side_max pixels a side and pixels_max in
// all.
struct RgbaPixels {
  uint32_t width = 0, height = 0;
  Bytes rgba;
};
result<RgbaPixels> read_png_as_rgba(const ByteSource&, uint32_t side_max, uint64_t pixels_max);

}  // namespace datacloud::watermark
