// Kernels for processors with GFNI and AVX2 but not AVX-512: 32 products of bytes an instruction.
// How they work: audit_gfni.h.
#include "common/tags/audit_gfni.h"
#include "common/tags/audit_lanes_avx2.h"

#if defined(__x86_64__)
#define DATACLOUD_GFNI __attribute__((target("gfni,avx2")))

namespace datacloud {
namespace {

using Vector = __m256i;
constexpr size_t kBlocksTogether = 2;  // share what is loaded of the tables; a lane each

DATACLOUD_GFNI inline Vector load(const uint8_t* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}
DATACLOUD_GFNI inline Vector mapped(Vector a, uint64_t matrix) {
  return _mm256_gf2p8affine_epi64_epi8(a, _mm256_set1_epi64x(static_cast<long long>(matrix)), 0);
}
DATACLOUD_GFNI inline Vector low_words(Vector a, Vector b) { return _mm256_unpacklo_epi32(a, b); }
DATACLOUD_GFNI inline Vector high_words(Vector a, Vector b) { return _mm256_unpackhi_epi32(a, b); }
DATACLOUD_GFNI inline Vector low_pairs(Vector a, Vector b) { return _mm256_unpacklo_epi64(a, b); }
DATACLOUD_GFNI inline Vector high_pairs(Vector a, Vector b) { return _mm256_unpackhi_epi64(a, b); }
DATACLOUD_GFNI inline Vector sum_of_four(Vector a, Vector b, Vector c, Vector d) {
  return (a ^ b) ^ (c ^ d);
}

#include "common/tags/audit_gfni_evaluate.inc"

// matrices: N per source. Only the first `outputs` are stored.
template <size_t N>
DATACLOUD_GFNI void combine_some(const uint64_t* matrices, size_t outputs, size_t sources,
                                 const uint8_t* const* in, uint8_t* const* out, size_t length) {
  for (size_t at = 0; at < length; at += kVector) {
    const size_t left = length - at;
    __m256i sums[N];
    for (size_t j = 0; j < N; ++j) sums[j] = _mm256_setzero_si256();
    const uint64_t* matrix = matrices;
    for (size_t i = 0; i < sources; ++i, matrix += N) {
      const __m256i data = load_some(in[i] + at, left);
#pragma GCC unroll 8
      for (size_t j = 0; j < N; ++j) {
        sums[j] = _mm256_xor_si256(sums[j], mapped(data, matrix[j]));
      }
    }
    for (size_t j = 0; j < outputs; ++j) {
      store_some(out[j] + at, _mm256_xor_si256(load_some(out[j] + at, left), sums[j]), left);
    }
  }
}

DATACLOUD_GFNI void combine(const uint8_t* coefficients, size_t outputs, size_t sources,
                            const uint8_t* const* in, uint8_t* const* out, size_t length) {
  static const auto kMatrices = make_multiplication_matrices();
  constexpr size_t kSourcesTogether = 64, kOutputsTogether = 8;
  uint64_t matrices[kSourcesTogether * kOutputsTogether];
  for (size_t done = 0; done < outputs; done += kOutputsTogether) {
    const size_t some = std::min(kOutputsTogether, outputs - done);
    const size_t n = some <= 1 ? 1 : some <= 4 ? 4 : 8;
    for (size_t first = 0; first < sources; first += kSourcesTogether) {
      const size_t count = std::min(kSourcesTogether, sources - first);
      for (size_t i = 0; i < count; ++i) {
        for (size_t j = 0; j < n; ++j) {
          matrices[i * n + j] =
              j < some ? kMatrices[coefficients[(done + j) * sources + first + i]] : uint64_t{0};
        }
      }
      const auto combined = n == 1 ? combine_some<1> : n == 4 ? combine_some<4> : combine_some<8>;
      combined(matrices, some, count, in + first, out + done, length);
    }
  }
}

// The bytes of each four rotated by R places.
template <size_t R>
DATACLOUD_GFNI inline __m256i turned(__m256i a) {
  alignas(16) std::array<uint8_t, kFieldBytes> from;
  for (size_t j = 0; j < kFieldBytes; ++j) {
    from[j] = static_cast<uint8_t>(j / kPartBytes * kPartBytes + (j - R) % kPartBytes);
  }
  return _mm256_shuffle_epi8(a, load_twice(from.data()));
}

template <size_t P, size_t K, size_t B>
DATACLOUD_GFNI inline __m256i multiply(const uint8_t* tables, const Quarters<B>& quarters,
                                       const uint8_t* ahead) {
  constexpr size_t kLine = 64;
  const uint8_t* table = tables + (kThird * P + K) * kSteps * kStepTables;
  __m256i rotated[B][kPartBytes];
#pragma GCC unroll 2
  for (size_t b = 0; b < B; ++b) {
#pragma GCC unroll 4
    for (size_t r = 0; r < kPartBytes; ++r) rotated[b][r] = _mm256_setzero_si256();
  }
  for (size_t step = 0; step < kSteps; ++step, table += kStepTables) {
    if constexpr (kThird * P + K < 2 * B) {
      _mm_prefetch(ahead + ((kThird * P + K) * kSteps + step) * kLine, _MM_HINT_T1);
    }
    __m256i some[B];
#pragma GCC unroll 2
    for (size_t b = 0; b < B; ++b) some[b] = part_of<P, K, B>(quarters, b, step);
#pragma GCC unroll 4
    for (size_t r = 0; r < kPartBytes; ++r) {
      const __m256i by = _mm256_load_si256(reinterpret_cast<const __m256i*>(table + r * kVector));
#pragma GCC unroll 2
      for (size_t b = 0; b < B; ++b) {
        rotated[b][r] = _mm256_xor_si256(rotated[b][r], _mm256_gf2p8mul_epi8(some[b], by));
      }
    }
  }
  __m256i sums[2] = {};
#pragma GCC unroll 2
  for (size_t b = 0; b < B; ++b) {
    sums[b] = (rotated[b][0] ^ turned<1>(rotated[b][1])) ^
              (turned<2>(rotated[b][2]) ^ turned<3>(rotated[b][3]));
  }
  return _mm256_permute2x128_si256(sums[0], sums[1], 0x20) ^
         _mm256_permute2x128_si256(sums[0], sums[1], 0x31);
}

// Lane b has the half of block b, twice.
DATACLOUD_GFNI inline __m256i joined_parts(__m256i low, __m256i high, __m256i sum) {
  const __m256i a = _mm256_unpacklo_epi32(low, high) ^ _mm256_unpackhi_epi32(low, high);
  const __m256i b = _mm256_unpacklo_epi32(sum, sum) ^ _mm256_unpackhi_epi32(sum, sum);
  const __m256i thirds =
      mapped(_mm256_unpacklo_epi64(a, b) ^ _mm256_unpackhi_epi64(a, b), kIsomorphism.back);
  const __m256i stepped_high = _mm256_shuffle_epi32(stepped<4>(thirds), 0x55);
  const __m256i summed = _mm256_shuffle_epi32(thirds, 0xaa);
  return _mm256_shuffle_epi32(thirds, 0) ^ joined<4>(stepped_high, summed);
}

DATACLOUD_GFNI inline __m256i joined_halves(__m256i low, __m256i high, __m256i sum) {
  return low ^ joined<8>(stepped<8>(high), sum);
}

template <size_t B>
DATACLOUD_GFNI inline void store_elements(uint8_t* out, __m256i elements) {
  store_some(out, elements, B * kFieldBytes);
}

}  // namespace

const AuditKernels* gfni256_audit_kernels() {
  static const AuditKernels kernels{"gfni-avx2", combine,  kTablesBytes,
                                    make_tables, evaluate, sum_components_avx2};
  return __builtin_cpu_supports("gfni") && __builtin_cpu_supports("avx2") ? &kernels : nullptr;
}

}  // namespace datacloud

#else
namespace datacloud {
const AuditKernels* gfni256_audit_kernels() { return nullptr; }
}  // namespace datacloud
#endif
