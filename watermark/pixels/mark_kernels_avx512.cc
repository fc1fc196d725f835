// Marking and unmarking of a row for processors with AVX-512 (mark_kernels.inc).
#include <cstddef>
#include <cstdint>

#include "watermark/pixels/mark_kernels.h"

#if defined(__x86_64__)

namespace datacloud::watermark {
namespace {

#define DATACLOUD_MARK_TARGET __attribute__((target("avx512f,avx512bw,avx512vl")))
#define VECTOR_BYTES 64
#include "watermark/pixels/mark_kernels.inc"

constexpr MarkKernels kKernels{"avx512", row<uint8_t, true>, row<uint8_t, false>,
                               row<uint16_t, true>, row<uint16_t, false>};

}  // namespace

const MarkKernels* avx512_mark_kernels() {
  static const bool usable = __builtin_cpu_supports("avx512f") &&
                             __builtin_cpu_supports("avx512bw") &&
                             __builtin_cpu_supports("avx512vl");
  return usable ? &kKernels : nullptr;
}

}  // namespace datacloud::watermark

#else

namespace datacloud::watermark {
const MarkKernels* avx512_mark_kernels() { return nullptr; }
}  // namespace datacloud::watermark

#endif
