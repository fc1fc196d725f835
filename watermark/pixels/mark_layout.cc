// Placement, scaling to the nearest pixel, and rows of the mark (mark_layout.h). Integers only: the
// layout must come out the same when the mark is taken off.
#include "watermark/pixels/mark_layout.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace datacloud::watermark {
namespace {

// ITU-R BT.601 weights in 256ths.
uint8_t grey_of(const uint8_t* rgba) {
  return static_cast<uint8_t>((77 * rgba[0] + 150 * rgba[1] + 29 * rgba[2] + 128) >> 8);
}

uint32_t scaled(uint64_t value, uint64_t numerator, uint64_t denominator) {
  return static_cast<uint32_t>(std::max<uint64_t>(1, value * numerator / denominator));
}

}  // namespace

MarkLayout::MarkLayout(const Surface& surface, const MarkRaster& mark, const MarkPlace& place)
    : surface_(surface), mark_(mark), tiled_(place.placement == Placement::tile) {
  const uint32_t base_width = surface.base_width, base_height = surface.base_height;
  width_ = mark.width;
  height_ = mark.height;
  if (place.size_permille != 0) {
    width_ = scaled(base_width, place.size_permille, 1000);
    height_ = scaled(mark.height, width_, mark.width);
  } else if (!tiled_ && (width_ > base_width || height_ > base_height)) {  // made to fit
    if (uint64_t{mark.width} * base_height > uint64_t{mark.height} * base_width) {
      width_ = base_width;
      height_ = scaled(mark.height, base_width, mark.width);
    } else {
      height_ = base_height;
      width_ = scaled(mark.width, base_height, mark.height);
    }
  }
  const int64_t right = int64_t{base_width} - width_, bottom = int64_t{base_height} - height_;
  const int64_t margin = std::min(base_width, base_height) / 50;
  switch (place.placement) {
    case Placement::tile:
      break;
    case Placement::centre:
      left_ = right / 2;
      top_ = bottom / 2;
      break;
    case Placement::top_left:
      left_ = top_ = margin;
      break;
    case Placement::top_right:
      left_ = right - margin;
      top_ = margin;
      break;
    case Placement::bottom_left:
      left_ = margin;
      top_ = bottom - margin;
      break;
    case Placement::bottom_right:
      left_ = right - margin;
      top_ = bottom - margin;
      break;
    case Placement::at:
      left_ = place.x;
      top_ = place.y;
      break;
  }
  columns_.assign(surface.width, -1);
  first_ = surface.width;
  for (uint32_t x = 0; x < surface.width; ++x) {
    int64_t at = static_cast<int64_t>(uint64_t{x} * base_width / surface.width) - left_;
    if (tiled_) at %= width_;
    if (at < 0 || at >= int64_t{width_}) continue;
    columns_[x] = static_cast<int32_t>(at * mark.width / width_);
    first_ = std::min(first_, x);
    last_ = x + 1;
  }
  if (tiled_ && surface.width == base_width) period_ = width_;
}

int64_t MarkLayout::mark_row(uint32_t y) const {
  int64_t at = static_cast<int64_t>(uint64_t{y} * surface_.base_height / surface_.height) - top_;
  if (tiled_) at %= height_;
  if (at < 0 || at >= int64_t{height_}) return -1;
  return at * mark_.height / height_;
}

template <class Sample>
void MarkLayout::expand(uint32_t mark_row, RowMark& row) const {
  constexpr Sample kScale = sizeof(Sample) == 1 ? 1 : 257;
  const size_t channels = surface_.channels();
  auto* samples = reinterpret_cast<Sample*>(row.samples.data());
  auto* mask = reinterpret_cast<Sample*>(row.mask.data());
  const uint32_t end = period_ == 0 ? last_ : std::min(period_, surface_.width);
  const uint8_t* pixels = mark_.rgba.data() + size_t{mark_row} * mark_.width * 4;
  for (uint32_t x = first_; x < end; ++x) {
    const bool here = columns_[x] >= 0 && pixels[size_t(columns_[x]) * 4 + 3] != 0;
    for (size_t c = 0; c < channels; ++c) {
      const size_t at = size_t{x} * channels + c;
      const ChannelRole role = surface_.roles[c];
      if (!here || role == ChannelRole::none) {
        mask[at] = samples[at] = 0;
        continue;
      }
      const uint8_t* pixel = pixels + size_t(columns_[x]) * 4;
      const uint8_t value =
          role == ChannelRole::grey ? grey_of(pixel) : pixel[static_cast<size_t>(role)];
      samples[at] = static_cast<Sample>(value * kScale);
      mask[at] = static_cast<Sample>(-1);
    }
  }
  // The rest repeats what is there, in pieces that double.
  const size_t all = surface_.row_samples();
  for (size_t done = size_t{end} * channels; period_ != 0 && done < all;) {
    const size_t piece = std::min(done, all - done);
    std::memcpy(samples + done, samples, piece * sizeof(Sample));
    std::memcpy(mask + done, mask, piece * sizeof(Sample));
    done += piece;
  }
}

bool MarkLayout::fill(uint32_t y, RowMark& row) const {
  const int64_t wanted = first_ < last_ ? mark_row(y) : -1;
  if (row.samples.size() != surface_.row_bytes()) {
    row.samples.assign(surface_.row_bytes(), 0);
    row.mask.assign(surface_.row_bytes(), 0);
    row.mark_row = -2;
  }
  if (wanted < 0) return false;
  if (wanted == row.mark_row) return true;
  if (surface_.bits == 8)
    expand<uint8_t>(static_cast<uint32_t>(wanted), row);
  else
    expand<uint16_t>(static_cast<uint32_t>(wanted), row);
  row.mark_row = wanted;
  return true;
}

}  // namespace datacloud::watermark
