// Delta and shuffle in one pass over the block, one instance for each width of samples.
#include "common/crypto/byte_filter.h"

#include <algorithm>
#include <cstring>

namespace datacloud {
namespace {

constexpr uint8_t kDelta = 8;

template <class Sample>
void apply(bool delta, ByteView in, MutableByteView out) {
  const size_t count = in.size() / sizeof(Sample);
  Sample previous = 0;
  for (size_t i = 0; i < count; ++i) {
    Sample sample;
    std::memcpy(&sample, in.data() + i * sizeof sample, sizeof sample);
    const auto stored = static_cast<Sample>(delta ? sample - previous : sample);
    previous = sample;
    for (size_t b = 0; b < sizeof stored; ++b) {
      out[b * count + i] = static_cast<uint8_t>(stored >> 8 * b);
    }
  }
  const size_t done = count * sizeof(Sample);
  std::copy(in.begin() + done, in.end(), out.begin() + done);
}

template <class Sample>
void undo(bool delta, ByteView in, MutableByteView out) {
  const size_t count = in.size() / sizeof(Sample);
  Sample previous = 0;
  for (size_t i = 0; i < count; ++i) {
    Sample sample = 0;
    for (size_t b = 0; b < sizeof sample; ++b) {
      sample =
          static_cast<Sample>(sample | static_cast<Sample>(Sample{in[b * count + i]} << 8 * b));
    }
    if (delta) sample = static_cast<Sample>(sample + previous);
    previous = sample;
    std::memcpy(out.data() + i * sizeof sample, &sample, sizeof sample);
  }
  const size_t done = count * sizeof(Sample);
  std::copy(in.begin() + done, in.end(), out.begin() + done);
}

}  // namespace

uint8_t filter_code(ByteFilter filter) {
  if (filter.none()) return 0;
  const uint8_t width = filter.sample_bytes == 2 ? 1 : filter.sample_bytes == 4 ? 2 : 3;
  return filter.delta ? width | kDelta : width;
}

std::optional<ByteFilter> filter_of(uint8_t code) {
  if (code == 0) return ByteFilter{};
  const uint8_t width = code & ~kDelta;
  if (width < 1 || width > 3) return std::nullopt;
  return ByteFilter{static_cast<uint8_t>(1 << width), (code & kDelta) != 0};
}

void apply_filter(ByteFilter filter, ByteView in, MutableByteView out) {
  switch (filter.sample_bytes) {
    case 2:
      return apply<uint16_t>(filter.delta, in, out);
    case 4:
      return apply<uint32_t>(filter.delta, in, out);
    case 8:
      return apply<uint64_t>(filter.delta, in, out);
    default:
      std::copy(in.begin(), in.end(), out.begin());
  }
}

void undo_filter(ByteFilter filter, ByteView in, MutableByteView out) {
  switch (filter.sample_bytes) {
    case 2:
      return undo<uint16_t>(filter.delta, in, out);
    case 4:
      return undo<uint32_t>(filter.delta, in, out);
    case 8:
      return undo<uint64_t>(filter.delta, in, out);
    default:
      std::copy(in.begin(), in.end(), out.begin());
  }
}

}  // namespace datacloud
