// Passes and filters of the PNG specification, sections 8 and 9 (png_rows.h).
#include "watermark/picture/png_rows.h"

#include <algorithm>
#include <array>
#include <cstdlib>

namespace datacloud::watermark {
namespace {

uint8_t paeth(int left, int up, int corner) {
  const int estimate = left + up - corner;
  const int from_left = std::abs(estimate - left), from_up = std::abs(estimate - up),
            from_corner = std::abs(estimate - corner);
  if (from_left <= from_up && from_left <= from_corner) return static_cast<uint8_t>(left);
  return static_cast<uint8_t>(from_up <= from_corner ? up : corner);
}

template <uint8_t kFilter>
void filter_row(size_t pixel, ByteView row, ByteView above, uint8_t* out) {
  for (size_t i = 0; i < row.size(); ++i) {
    const int left = i < pixel ? 0 : row[i - pixel];
    const int up = above[i], corner = i < pixel ? 0 : above[i - pixel];
    int estimate = 0;
    if (kFilter == 1) estimate = left;
    if (kFilter == 2) estimate = up;
    if (kFilter == 3) estimate = (left + up) / 2;
    if (kFilter == 4) estimate = paeth(left, up, corner);
    out[i] = static_cast<uint8_t>(row[i] - estimate);
  }
}

uint64_t magnitude(ByteView row) {
  uint64_t sum = 0;
  for (const uint8_t byte : row) sum += byte < 128 ? byte : 256 - byte;
  return sum;
}

}  // namespace

PngPasses png_passes(uint32_t width, uint32_t height, bool interlaced) {
  if (!interlaced) return {{0, 0, 1, 1, width, height}};
  static constexpr std::array<PngPass, 7> kAdam7 = {{{0, 0, 8, 8},
                                                     {4, 0, 8, 8},
                                                     {0, 4, 4, 8},
                                                     {2, 0, 4, 4},
                                                     {0, 2, 2, 4},
                                                     {1, 0, 2, 2},
                                                     {0, 1, 1, 2}}};
  PngPasses passes;
  for (PngPass pass : kAdam7) {
    if (width <= pass.x0 || height <= pass.y0) continue;
    pass.width = (width - pass.x0 - 1) / pass.dx + 1;
    pass.height = (height - pass.y0 - 1) / pass.dy + 1;
    passes.push_back(pass);
  }
  return passes;
}

void png_filter(uint8_t filter, size_t pixel_bytes, ByteView row, ByteView above,
                MutableByteView out) {
  switch (filter) {
    case 1:
      return filter_row<1>(pixel_bytes, row, above, out.data());
    case 2:
      return filter_row<2>(pixel_bytes, row, above, out.data());
    case 3:
      return filter_row<3>(pixel_bytes, row, above, out.data());
    case 4:
      return filter_row<4>(pixel_bytes, row, above, out.data());
    default:
      std::copy(row.begin(), row.end(), out.begin());
  }
}

uint8_t png_choose_filter(size_t pixel_bytes, ByteView row, ByteView above, Bytes& out,
                          Bytes& scratch) {
  out.resize(row.size());
  scratch.resize(row.size());
  uint8_t best = 0;
  std::copy(row.begin(), row.end(), out.begin());
  uint64_t smallest = magnitude(out);
  for (uint8_t filter = 1; filter <= 4; ++filter) {
    png_filter(filter, pixel_bytes, row, above, scratch);
    const uint64_t sum = magnitude(scratch);
    if (sum >= smallest) continue;
    smallest = sum;
    best = filter;
    out.swap(scratch);
  }
  return best;
}

}  // namespace datacloud::watermark
