// Rows of a band, from the top: marking looks at the original row above, which unmarking has just
// restored (band_transform.h).
#include "watermark/pixels/band_transform.h"

#include <cstring>
#include <utility>

#include "common/base/check.h"

namespace datacloud::watermark {

MarkStrength strength_for(const MarkStrength& of_8_bits, uint32_t bits) {
  if (bits == 8) return of_8_bits;
  return {of_8_bits.opacity, of_8_bits.noise_bits == 0 ? 0 : of_8_bits.noise_bits + 8,
          of_8_bits.spread * 256};
}

BandTransform::BandTransform(const Surface& surface, const MarkLayout& layout,
                             const MarkStrength& of_8_bits, const SecretKey& stream_key,
                             const MarkKernels& kernels)
    : surface_(surface),
      layout_(layout),
      strength_(strength_for(of_8_bits, surface.bits)),
      kernels_(kernels),
      keystream_(stream_key),
      stream_(surface.row_bytes()),
      above_(surface.row_bytes() + 2 * surface.channels() * (surface.bits / 8)),
      next_(above_.size()) {}

template <class Sample, bool kMarking>
void BandTransform::run(uint32_t band, MutableByteView samples) {
  const size_t channels = surface_.channels(), count = surface_.row_samples();
  const size_t row_bytes = surface_.row_bytes(), pixel_bytes = channels * sizeof(Sample);
  const uint32_t rows = static_cast<uint32_t>(samples.size() / row_bytes);
  const uint32_t first = band * band_rows(surface_);
  DC_CHECK(samples.size() % row_bytes == 0 && rows <= band_rows(surface_) &&
           first + rows <= surface_.height);
  const auto keep_original = [&](const uint8_t* row, Bytes& to) {
    std::memcpy(to.data() + pixel_bytes, row, row_bytes);
    std::memcpy(to.data(), row, pixel_bytes);
    std::memcpy(to.data() + pixel_bytes + row_bytes, row + row_bytes - pixel_bytes, pixel_bytes);
  };
  for (uint32_t y = 0; y < rows; ++y) {
    uint8_t* row = samples.data() + y * row_bytes;
    const bool marked = layout_.fill(first + y, row_mark_);
    if constexpr (kMarking) keep_original(row, next_);
    if (marked) {
      keystream_.row(surface_.page, surface_.plane, band, y, stream_);
      MarkRow<Sample> in;
      in.row = reinterpret_cast<Sample*>(row);
      if (y > 0) in.above = reinterpret_cast<const Sample*>(above_.data()) + channels;
      in.mark = reinterpret_cast<const Sample*>(row_mark_.samples.data());
      in.mask = reinterpret_cast<const Sample*>(row_mark_.mask.data());
      in.keystream = reinterpret_cast<const Sample*>(stream_.data());
      in.count = count;
      in.channels = channels;
      if constexpr (sizeof(Sample) == 1)
        (kMarking ? kernels_.mark8 : kernels_.unmark8)(in, strength_);
      else
        (kMarking ? kernels_.mark16 : kernels_.unmark16)(in, strength_);
    }
    if constexpr (!kMarking) keep_original(row, next_);
    std::swap(above_, next_);
  }
}

void BandTransform::mark(uint32_t band, MutableByteView samples) {
  if (surface_.bits == 8)
    run<uint8_t, true>(band, samples);
  else
    run<uint16_t, true>(band, samples);
}

void BandTransform::unmark(uint32_t band, MutableByteView samples) {
  if (surface_.bits == 8)
    run<uint8_t, false>(band, samples);
  else
    run<uint16_t, false>(band, samples);
}

}  // namespace datacloud::watermark
