// A surface: one array of samples of a picture's file that is marked as one. A page whose channels
// are stored together is one surface; one that stores them apart (PLANARCONFIG_SEPARATE) is one per
// channel. Overviews are pages of their own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace datacloud::watermark {

// What of the mark's colours a channel gets; none: never marked (alpha).
enum class ChannelRole : uint8_t { red = 0, green = 1, blue = 2, grey = 3, none = 4 };

struct Surface {
  uint32_t page = 0, plane = 0;
  uint32_t width = 0, height = 0;
  uint32_t bits = 8;                         // of a sample: 8 or 16
  std::vector<ChannelRole> roles;            // one per channel of the surface
  uint32_t base_width = 0, base_height = 0;  // of the page that this is an overview of, or its own

  size_t channels() const { return roles.size(); }
  size_t row_samples() const { return size_t{width} * channels(); }
  size_t row_bytes() const { return row_samples() * (bits / 8); }
};

// Samples are marked in bands of this many rows, whatever the file's strips and tiles are; of fewer
// (a power of two) where a band would have more than kBandBytesMax. The first row of a band is
// marked without the row above, so that bands are independent.
inline constexpr uint32_t kBandRows = 256;
inline constexpr size_t kBandBytesMax = size_t{64} << 20;

constexpr uint32_t band_rows(const Surface& surface) {
  uint32_t rows = kBandRows;
  while (rows > 1 && surface.row_bytes() * rows > kBandBytesMax) rows /= 2;
  return rows;
}

}  // namespace datacloud::watermark
