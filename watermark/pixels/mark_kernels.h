// The inner loop of marking and unmarking: one row, one set of instructions per kind of processor,
// chosen at run time. All sets compute the same values (tests/watermark/pixels runs every usable
// one against compound_map.h).
//
// For each sample with a mask:
//   a = (UL + 2 U + UR + 2) >> 2 of the original row above, same channel; half of the range without
//       a row above
//   b = (opacity * l + (256 - opacity) * a + 128) >> 8, moved by the keystream within +-spread and
//       held within 0..M
//   r = F_a(p) xor (the low `noise_bits` bits of the keystream);  q = F_b^-1(r)
// A word of the keystream (8 or 16 bits, as the samples) gives its low noise_bits bits to r; the
// value h of the others moves b by ((h * (2 spread + 1)) >> (bits - noise_bits)) - spread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace datacloud::watermark {

struct MarkStrength {
  uint32_t opacity = 256;   // 0..256: how much of b is the mark
  uint32_t noise_bits = 0;  // 0..bits of a sample
  uint32_t spread = 0;      // below half of the range
};

// One row. `Sample` is uint8_t or uint16_t; all arrays have `count` samples.
template <class Sample>
struct MarkRow {
  Sample* row = nullptr;  // changed in place
  // The original row above. Readable from `channels` samples before to `channels` samples after the
  // row, where the outermost pixels are repeated. Null: there is none.
  const Sample* above = nullptr;
  const Sample* mark = nullptr;
  const Sample* mask = nullptr;       // 0: left as it is; all bits set: marked
  const Sample* keystream = nullptr;  // words of the keystream
  size_t count = 0;
  size_t channels = 1;
};

struct MarkKernels {
  const char* name;
  void (*mark8)(const MarkRow<uint8_t>&, const MarkStrength&);
  void (*unmark8)(const MarkRow<uint8_t>&, const MarkStrength&);
  void (*mark16)(const MarkRow<uint16_t>&, const MarkStrength&);
  void (*unmark16)(const MarkRow<uint16_t>&, const MarkStrength&);
};

extern const MarkKernels kPortableMarkKernels;
const MarkKernels* avx2_mark_kernels();    // null: not on this processor
const MarkKernels* avx512_mark_kernels();  // AVX-512 F, BW, VL
// Those this processor can run, the fastest first; but what DATACLOUD_WATERMARK_KERNELS names
// ("avx512", "avx2", "portable") comes before, if it can run here.
const std::vector<const MarkKernels*>& usable_mark_kernels();

}  // namespace datacloud::watermark
