// Kernels for processors with GFNI and AVX-512: 64 products of bytes an instruction. How they work:
// audit_gfni.h.
#include "common/tags/audit_gfni.h"

#if defined(__x86_64__)
#include <immintrin.h>
// g++ 12 takes the undefined values inside its own AVX-512 intrinsics for uses of ours.
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <algorithm>
#include <cstring>

#define DATACLOUD_GFNI __attribute__((target("gfni,avx512f,avx512bw,avx512vl")))

namespace datacloud {
namespace {

using Vector = __m512i;
constexpr size_t kBlocksTogether = 4;  // share what is loaded of the tables
constexpr int kXorOfThree = 0x96;      // of ternary logic

DATACLOUD_GFNI inline Vector load(const uint8_t* from) { return _mm512_loadu_si512(from); }
DATACLOUD_GFNI inline Vector mapped(Vector a, uint64_t matrix) {
  return _mm512_gf2p8affine_epi64_epi8(a, _mm512_set1_epi64(static_cast<long long>(matrix)), 0);
}
DATACLOUD_GFNI inline Vector low_words(Vector a, Vector b) { return _mm512_unpacklo_epi32(a, b); }
DATACLOUD_GFNI inline Vector high_words(Vector a, Vector b) { return _mm512_unpackhi_epi32(a, b); }
DATACLOUD_GFNI inline Vector low_pairs(Vector a, Vector b) { return _mm512_unpacklo_epi64(a, b); }
DATACLOUD_GFNI inline Vector high_pairs(Vector a, Vector b) { return _mm512_unpackhi_epi64(a, b); }
DATACLOUD_GFNI inline Vector sum_of_four(Vector a, Vector b, Vector c, Vector d) {
  return _mm512_ternarylogic_epi64(a, b, c, kXorOfThree) ^ d;
}

#include "common/tags/audit_gfni_evaluate.inc"

// matrices: N per source. Only the first `outputs` are stored.
template <size_t N>
DATACLOUD_GFNI void combine_some(const uint64_t* matrices, size_t outputs, size_t sources,
                                 const uint8_t* const* in, uint8_t* const* out, size_t length) {
  for (size_t at = 0; at < length; at += kVector) {
    const size_t left = length - at;
    const __mmask64 mask = left >= kVector ? ~__mmask64{0} : (__mmask64{1} << left) - 1;
    __m512i sums[N];
    for (size_t j = 0; j < N; ++j) sums[j] = _mm512_setzero_si512();
    const uint64_t* matrix = matrices;
    for (size_t i = 0; i < sources; ++i, matrix += N) {
      const __m512i data = _mm512_maskz_loadu_epi8(mask, in[i] + at);
#pragma GCC unroll 16
      for (size_t j = 0; j < N; ++j) {
        const __m512i by = _mm512_set1_epi64(static_cast<long long>(matrix[j]));
        sums[j] = _mm512_xor_si512(sums[j], _mm512_gf2p8affine_epi64_epi8(data, by, 0));
      }
    }
    for (size_t j = 0; j < outputs; ++j) {
      const __m512i before = _mm512_maskz_loadu_epi8(mask, out[j] + at);
      _mm512_mask_storeu_epi8(out[j] + at, mask, _mm512_xor_si512(before, sums[j]));
    }
  }
}

DATACLOUD_GFNI void combine(const uint8_t* coefficients, size_t outputs, size_t sources,
                            const uint8_t* const* in, uint8_t* const* out, size_t length) {
  static const auto kMatrices = make_multiplication_matrices();
  constexpr size_t kSourcesTogether = 32;
  const size_t n = outputs <= 1 ? 1 : outputs <= 4 ? 4 : outputs <= 8 ? 8 : 16;
  uint64_t matrices[kSourcesTogether * 16];
  for (size_t first = 0; first < sources; first += kSourcesTogether) {
    const size_t count = std::min(kSourcesTogether, sources - first);
    for (size_t i = 0; i < count; ++i) {
      for (size_t j = 0; j < n; ++j) {
        matrices[i * n + j] =
            j < outputs ? kMatrices[coefficients[j * sources + first + i]] : uint64_t{0};
      }
    }
    const auto some = n == 1   ? combine_some<1>
                      : n == 4 ? combine_some<4>
                      : n == 8 ? combine_some<8>
                               : combine_some<16>;
    some(matrices, outputs, count, in + first, out, length);
  }
}

// The halves of each 2 H bytes exchanged.
template <size_t H>
DATACLOUD_GFNI inline __m512i exchanged(__m512i a) {
  alignas(16) uint8_t from[kFieldBytes];
  for (size_t j = 0; j < kFieldBytes; ++j) from[j] = static_cast<uint8_t>(j ^ H);
  const __m128i control = _mm_load_si128(reinterpret_cast<const __m128i*>(from));
  return _mm512_shuffle_epi8(a, _mm512_broadcast_i32x4(control));
}

// Which bytes are in the upper half of each 2 H.
template <size_t H>
constexpr __mmask64 upper() {
  __mmask64 mask = 0;
  for (size_t b = 0; b < kVector; ++b) mask |= (b & H) != 0 ? __mmask64{1} << b : 0;
  return mask;
}

// c times each H bytes, c with 0x20 in the last of them: see multiply_step in audit_kernels.cc.
template <size_t H>
DATACLOUD_GFNI inline __m512i stepped(__m512i a) {
  if constexpr (H == 1) {
    constexpr uint8_t kStep = 0x20;
    static const uint64_t kMatrix = multiplication_matrix(kStep);
    return _mm512_gf2p8affine_epi64_epi8(a, _mm512_set1_epi64(static_cast<long long>(kMatrix)), 0);
  } else {
    const __m512i swapped = exchanged<H / 2>(a);  // below: a1; above: a0
    const __m512i both =                          // below: a1; above: a0 + a1
        _mm512_xor_si512(swapped, _mm512_maskz_mov_epi8(upper<H / 2>(), a));
    const __m512i once = stepped<H / 2>(both);
    return _mm512_mask_mov_epi8(stepped<H / 2>(once), upper<H / 2>(), once);
  }
}

// Two steps at once, so that one instruction adds both products to a sum.
template <size_t P, size_t K, size_t B>
DATACLOUD_GFNI inline __m512i multiply(const uint8_t* tables, const Quarters<B>& quarters,
                                       const uint8_t* ahead) {
  ahead += (kThird * P + K) * kSteps / 2 * B * kVector;
  const uint8_t* table = tables + (kThird * P + K) * kSteps * kStepTables;
  __m512i rotated[B][kPartBytes];
#pragma GCC unroll 4
  for (size_t b = 0; b < B; ++b) {
#pragma GCC unroll 4
    for (size_t r = 0; r < kPartBytes; ++r) rotated[b][r] = _mm512_setzero_si512();
  }
  for (size_t step = 0; step < kSteps; step += 2, table += 2 * kStepTables) {
    __m512i first[B], second[B];
#pragma GCC unroll 4
    for (size_t b = 0; b < B; ++b) {
      _mm_prefetch(ahead, _MM_HINT_T1);  // a shard is read once, and rarely from a near cache
      ahead += kVector;
      first[b] = part_of<P, K, B>(quarters, b, step);
      second[b] = part_of<P, K, B>(quarters, b, step + 1);
    }
#pragma GCC unroll 4
    for (size_t r = 0; r < kPartBytes; ++r) {
      const __m512i by_first = _mm512_load_si512(table + r * kVector);
      const __m512i by_second = _mm512_load_si512(table + kStepTables + r * kVector);
#pragma GCC unroll 4
      for (size_t b = 0; b < B; ++b) {
        rotated[b][r] =
            _mm512_ternarylogic_epi64(rotated[b][r], _mm512_gf2p8mul_epi8(first[b], by_first),
                                      _mm512_gf2p8mul_epi8(second[b], by_second), kXorOfThree);
      }
    }
  }
  __m512i sums[4] = {};
#pragma GCC unroll 4
  for (size_t b = 0; b < B; ++b) {
    sums[b] = _mm512_ternarylogic_epi64(rotated[b][0], _mm512_rol_epi32(rotated[b][1], 8),
                                        _mm512_rol_epi32(rotated[b][2], 16), kXorOfThree) ^
              _mm512_rol_epi32(rotated[b][3], 24);
  }
  const __m512i low =
      _mm512_shuffle_i64x2(sums[0], sums[1], 0x44) ^ _mm512_shuffle_i64x2(sums[0], sums[1], 0xee);
  const __m512i high =
      _mm512_shuffle_i64x2(sums[2], sums[3], 0x44) ^ _mm512_shuffle_i64x2(sums[2], sums[3], 0xee);
  return _mm512_shuffle_i64x2(low, high, 0x88) ^ _mm512_shuffle_i64x2(low, high, 0xdd);
}

// Lane b begins with the half of block b.
DATACLOUD_GFNI inline __m512i joined_parts(__m512i low, __m512i high, __m512i sum) {
  const __m512i back = _mm512_set1_epi64(static_cast<long long>(kIsomorphism.back));
  const __m512i a = _mm512_unpacklo_epi32(low, high) ^ _mm512_unpackhi_epi32(low, high);
  const __m512i b = _mm512_unpacklo_epi32(sum, sum) ^ _mm512_unpackhi_epi32(sum, sum);
  const __m512i thirds = _mm512_gf2p8affine_epi64_epi8(
      _mm512_unpacklo_epi64(a, b) ^ _mm512_unpackhi_epi64(a, b), back, 0);
  const __m512i stepped_high = _mm512_shuffle_epi32(stepped<4>(thirds), _MM_PERM_BBBB);
  const __m512i summed = _mm512_shuffle_epi32(thirds, _MM_PERM_CCCC);
  return _mm512_shuffle_epi32(thirds, _MM_PERM_AAAA) ^
         _mm512_mask_mov_epi32(summed, 0x5555, stepped_high);
}

// Halves fill their lanes twice.
DATACLOUD_GFNI inline __m512i joined_halves(__m512i low, __m512i high, __m512i sum) {
  return low ^ _mm512_mask_mov_epi64(sum, 0x55, stepped<8>(high));
}

template <size_t B>
DATACLOUD_GFNI inline void store_elements(uint8_t* out, __m512i elements) {
  constexpr __mmask8 kStored = (1u << (2 * B)) - 1;
  _mm512_mask_storeu_epi64(out, kStored, elements);
}

// One level of the pairing in sum_components.
template <size_t H>
DATACLOUD_GFNI void sum_level(uint8_t* components, size_t stride, size_t bytes) {
  for (size_t row = 0; row < kFieldBytes; row += 2 * H) {
    uint8_t* to = components + row * stride;
    const uint8_t* from = to + H * stride;
    for (size_t at = 0; at < bytes; at += kVector) {
      const size_t left = bytes - at;
      const __mmask64 mask = left >= kVector ? ~__mmask64{0} : (__mmask64{1} << left) - 1;
      const __m512i a = _mm512_maskz_loadu_epi8(mask, from + at);
      const __m512i swapped = exchanged<H>(a);
      // X (a0, a1) = (c a1, a0 + a1)
      const __m512i product =
          _mm512_mask_mov_epi8(stepped<H>(swapped), upper<H>(), _mm512_xor_si512(a, swapped));
      const __m512i before = _mm512_maskz_loadu_epi8(mask, to + at);
      _mm512_mask_storeu_epi8(to + at, mask, _mm512_xor_si512(before, product));
    }
  }
}

DATACLOUD_GFNI void sum(uint8_t* components, size_t stride, size_t elements, uint8_t* out) {
  const size_t bytes = elements * kFieldBytes;
  sum_level<1>(components, stride, bytes);
  sum_level<2>(components, stride, bytes);
  sum_level<4>(components, stride, bytes);
  sum_level<8>(components, stride, bytes);
  std::memcpy(out, components, bytes);
}

}  // namespace

const AuditKernels* gfni_audit_kernels() {
  static const AuditKernels kernels{"gfni-avx512", combine,  kTablesBytes,
                                    make_tables,   evaluate, sum};
  const bool usable = __builtin_cpu_supports("gfni") && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  return usable ? &kernels : nullptr;
}

}  // namespace datacloud

#else
namespace datacloud {
const AuditKernels* gfni_audit_kernels() { return nullptr; }
}  // namespace datacloud
#endif
