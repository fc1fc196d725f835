// Marks and unmarks whole bands of a surface (surface.h): layout, keystream and kernels together.
//
// Thread safety: one object per thread; they may share a MarkLayout. The bands of a surface are
// independent of each other.
#pragma once

#include <cstdint>

#include "common/base/bytes.h"
#include "common/crypto/keys.h"
#include "watermark/pixels/mark_kernels.h"
#include "watermark/pixels/mark_layout.h"
#include "watermark/pixels/row_keystream.h"
#include "watermark/pixels/surface.h"

namespace datacloud::watermark {

// How pixels are marked; as for samples of 8 bits. For 16 bits noise_bits is 8 more, unless it is
// 0, and spread 256 times as much.
MarkStrength strength_for(const MarkStrength& of_8_bits, uint32_t bits);

class BandTransform {
 public:
  // Surface and layout must live as long as this.
  BandTransform(const Surface&, const MarkLayout&, const MarkStrength& of_8_bits,
                const SecretKey& stream_key,
                const MarkKernels& kernels = *usable_mark_kernels().front());

  // `samples`: the rows of band number `band`, row_bytes() each, in native byte order; changed in
  // place. All rows of the band must be there, but the last band may end early.
  void mark(uint32_t band, MutableByteView samples);
  void unmark(uint32_t band, MutableByteView samples);

 private:
  template <class Sample, bool kMarking>
  void run(uint32_t band, MutableByteView samples);

  const Surface& surface_;
  const MarkLayout& layout_;
  const MarkStrength strength_;
  const MarkKernels& kernels_;
  RowKeystream keystream_;
  RowMark row_mark_;
  Bytes stream_, above_, next_;  // above_ and next_: a row with a pixel before and behind it
};

}  // namespace datacloud::watermark
