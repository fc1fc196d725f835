// One loop, made for each number of targets. See packet_kernel_gfni.h.
#include "common/codes/packet_kernel_gfni.h"

#include "common/codes/gf256.h"

namespace datacloud {

uint64_t gfni_matrix(uint8_t by) {
  static const auto kMatrices = make_multiplication_matrices();
  return kMatrices[by];
}

}  // namespace datacloud

#if defined(__x86_64__)
#include <immintrin.h>
// g++ 12 takes the undefined values inside its own AVX-512 intrinsics for uses of ours.
#pragma GCC diagnostic ignored "-Wuninitialized"

#define DATACLOUD_GFNI __attribute__((target("gfni,avx512f,avx512bw,avx512vl")))

namespace datacloud {
namespace {

constexpr size_t kVector = 64;

DATACLOUD_GFNI inline __m512i load(const uint8_t* from) {
  return _mm512_loadu_si512(reinterpret_cast<const void*>(from));
}

// Two vectors at a time: a matrix is loaded once for both.
template <int T>
DATACLOUD_GFNI void whole_vectors(const uint64_t* matrices, int source_count,
                                  const uint8_t* const* sources, uint8_t* const* targets,
                                  size_t length) {
  for (size_t at = 0; at < length; at += 2 * kVector) {
    __m512i low[T], high[T];
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) low[t] = high[t] = _mm512_setzero_si512();
    const uint64_t* matrix = matrices;
    for (int s = 0; s < source_count; ++s, matrix += T) {
      const __m512i a = load(sources[s] + at), b = load(sources[s] + at + kVector);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const __m512i by = _mm512_set1_epi64(static_cast<long long>(matrix[t]));
        low[t] = _mm512_xor_si512(low[t], _mm512_gf2p8affine_epi64_epi8(a, by, 0));
        high[t] = _mm512_xor_si512(high[t], _mm512_gf2p8affine_epi64_epi8(b, by, 0));
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      _mm512_storeu_si512(targets[t] + at, low[t]);
      _mm512_storeu_si512(targets[t] + at + kVector, high[t]);
    }
  }
}

// What is left from `at` on, less than two vectors.
DATACLOUD_GFNI void rest(const uint64_t* matrices, int source_count, int target_count,
                         const uint8_t* const* sources, uint8_t* const* targets, size_t at,
                         size_t length) {
  for (; at < length; at += kVector) {
    const size_t left = length - at;
    const __mmask64 mask = left >= kVector ? ~__mmask64{0} : (__mmask64{1} << left) - 1;
    for (int t = 0; t < target_count; ++t) {
      __m512i sum = _mm512_setzero_si512();
      for (int s = 0; s < source_count; ++s) {
        const __m512i by =
            _mm512_set1_epi64(static_cast<long long>(matrices[s * target_count + t]));
        const __m512i data = _mm512_maskz_loadu_epi8(mask, sources[s] + at);
        sum = _mm512_xor_si512(sum, _mm512_gf2p8affine_epi64_epi8(data, by, 0));
      }
      _mm512_mask_storeu_epi8(targets[t] + at, mask, sum);
    }
  }
}

void pass(const uint64_t* matrices, int source_count, int target_count,
          const uint8_t* const* sources, uint8_t* const* targets, size_t length) {
  static constexpr decltype(&whole_vectors<1>) kLoops[kGfniTargetsMax] = {
      whole_vectors<1>, whole_vectors<2>, whole_vectors<3>, whole_vectors<4>,
      whole_vectors<5>, whole_vectors<6>, whole_vectors<7>, whole_vectors<8>};
  const size_t whole = length / (2 * kVector) * (2 * kVector);
  kLoops[target_count - 1](matrices, source_count, sources, targets, whole);
  rest(matrices, source_count, target_count, sources, targets, whole, length);
}

}  // namespace

GfniPass gfni_pass() {
  static const bool usable = __builtin_cpu_supports("gfni") && __builtin_cpu_supports("avx512f") &&
                             __builtin_cpu_supports("avx512bw") &&
                             __builtin_cpu_supports("avx512vl");
  return usable ? &pass : nullptr;
}

}  // namespace datacloud

#else
namespace datacloud {
GfniPass gfni_pass() { return nullptr; }
}  // namespace datacloud
#endif
