// Kernels for processors with AVX2: products of 32 bytes by two look-ups of nibbles.
//
// evaluate: with alpha^c = sum over j of a_{c,j} e_j, the sum of alpha^c m_c is the sum over j of
// e_j times S_j = sum over c of a_{c,j} m_c, where one constant goes with all 16 bytes of m_c: one
// table per lane. sum_components then adds up the S_j of many blocks.
#include "common/audit_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#define DATACLOUD_AVX2 __attribute__((target("avx2")))

namespace datacloud {
namespace {

constexpr size_t kVector = 32;
constexpr size_t kComponents = kFieldBytes;
constexpr size_t kPairs = kAuditBlockBytes / kVector;  // of elements
constexpr size_t kTogether = 4;                        // outputs of a pass
constexpr size_t kTablesBytes = kPairs * kComponents * 2 * kVector;

struct Nibbles {
  __m256i low, high;
};

DATACLOUD_AVX2 inline Nibbles nibbles(const uint8_t* from) {
  const __m256i data = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  const __m256i mask = _mm256_set1_epi8(15);
  return {_mm256_and_si256(data, mask), _mm256_and_si256(_mm256_srli_epi64(data, 4), mask)};
}

DATACLOUD_AVX2 inline __m256i product(const Nibbles& data, __m256i low, __m256i high) {
  return _mm256_xor_si256(_mm256_shuffle_epi8(low, data.low), _mm256_shuffle_epi8(high, data.high));
}

template <size_t N>
DATACLOUD_AVX2 void combine_some(const uint8_t* coefficients, size_t row, size_t sources,
                                 const uint8_t* const* in, uint8_t* const* out, size_t length) {
  for (size_t at = 0; at < length; at += kVector) {
    __m256i sums[N];
    for (size_t j = 0; j < N; ++j) {
      sums[j] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(out[j] + at));
    }
    for (size_t i = 0; i < sources; ++i) {
      const Nibbles data = nibbles(in[i] + at);
#pragma GCC unroll 4
      for (size_t j = 0; j < N; ++j) {
        const auto* table =
            reinterpret_cast<const __m128i*>(kNibbleProducts.of[coefficients[j * row + i]].data());
        sums[j] = _mm256_xor_si256(sums[j],
                                   product(data, _mm256_broadcastsi128_si256(_mm_load_si128(table)),
                                           _mm256_broadcastsi128_si256(_mm_load_si128(table + 1))));
      }
    }
    for (size_t j = 0; j < N; ++j) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out[j] + at), sums[j]);
    }
  }
}

DATACLOUD_AVX2 void combine(const uint8_t* coefficients, size_t outputs, size_t sources,
                            const uint8_t* const* in, uint8_t* const* out, size_t length) {
  const size_t vectors = length / kVector * kVector;
  for (size_t j = 0; j < outputs;) {
    const size_t count = outputs - j >= kTogether ? kTogether : 1;
    (count == 1 ? combine_some<1> : combine_some<kTogether>)(coefficients + j * sources, sources,
                                                             sources, in, out + j, vectors);
    j += count;
  }
  if (vectors == length) return;
  for (size_t i = 0; i < sources; ++i) {
    for (size_t j = 0; j < outputs; ++j) {
      const uint8_t by = coefficients[j * sources + i];
      for (size_t b = vectors; b < length; ++b) out[j][b] ^= gf256_multiply(by, in[i][b]);
    }
  }
}

// Low and high look-ups of a_{c,j} for two elements at a time, grouped by kTogether components.
void make_tables(const FieldElement& alpha, uint8_t* tables) {
  FieldElement power = alpha;
  for (size_t c = 0; c < kAuditElements; ++c, power = field_multiply(power, alpha)) {
    for (size_t j = 0; j < kComponents; ++j) {
      uint8_t* to =
          tables + ((j / kTogether * kPairs + c / 2) * kTogether + j % kTogether) * 2 * kVector;
      const auto& products = kNibbleProducts.of[power[j]];
      std::memcpy(to + c % 2 * 16, products.data(), 16);
      std::memcpy(to + kVector + c % 2 * 16, products.data() + 16, 16);
    }
  }
}

// Components of B blocks: row j at components + j * stride, one element a block.
template <size_t B>
DATACLOUD_AVX2 void evaluate_some(const uint8_t* tables, const uint8_t* data, uint8_t* components,
                                  size_t stride) {
  for (size_t group = 0; group < kComponents / kTogether; ++group) {
    const uint8_t* table = tables + group * kPairs * kTogether * 2 * kVector;
    __m256i sums[B][kTogether];
    for (size_t b = 0; b < B; ++b) {
      for (size_t j = 0; j < kTogether; ++j) sums[b][j] = _mm256_setzero_si256();
    }
    for (size_t pair = 0; pair < kPairs; ++pair) {
      Nibbles split[B];
#pragma GCC unroll 2
      for (size_t b = 0; b < B; ++b) {
        split[b] = nibbles(data + b * kAuditBlockBytes + pair * kVector);
      }
#pragma GCC unroll 4
      for (size_t j = 0; j < kTogether; ++j, table += 2 * kVector) {
        const __m256i low = _mm256_load_si256(reinterpret_cast<const __m256i*>(table));
        const __m256i high = _mm256_load_si256(reinterpret_cast<const __m256i*>(table + kVector));
#pragma GCC unroll 2
        for (size_t b = 0; b < B; ++b) {
          sums[b][j] = _mm256_xor_si256(sums[b][j], product(split[b], low, high));
        }
      }
    }
    for (size_t b = 0; b < B; ++b) {
      for (size_t j = 0; j < kTogether; ++j) {
        const __m128i sum = _mm_xor_si128(_mm256_castsi256_si128(sums[b][j]),
                                          _mm256_extracti128_si256(sums[b][j], 1));
        uint8_t* to = components + (group * kTogether + j) * stride + b * kFieldBytes;
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), sum);
      }
    }
  }
}

DATACLOUD_AVX2 void evaluate(const uint8_t* tables, const uint8_t* data, size_t blocks,
                             uint8_t* out) {
  constexpr size_t kBlocks = 64;  // added up together
  constexpr size_t kStride = kBlocks * kFieldBytes;
  uint8_t components[kComponents * kStride];
  while (blocks > 0) {
    const size_t count = std::min(kBlocks, blocks);
    size_t b = 0;
    for (; b + 2 <= count; b += 2) {
      evaluate_some<2>(tables, data + b * kAuditBlockBytes, components + b * kFieldBytes, kStride);
    }
    if (b < count) {
      evaluate_some<1>(tables, data + b * kAuditBlockBytes, components + b * kFieldBytes, kStride);
    }
    sum_components(components, kStride, count, out);
    data += count * kAuditBlockBytes;
    out += count * kFieldBytes;
    blocks -= count;
  }
}

}  // namespace

const AuditKernels* avx2_audit_kernels() {
  static const AuditKernels kernels{"avx2",      combine,  kTablesBytes,
                                    make_tables, evaluate, sum_components};
  return __builtin_cpu_supports("avx2") ? &kernels : nullptr;
}

}  // namespace datacloud

#else
namespace datacloud {
const AuditKernels* avx2_audit_kernels() { return nullptr; }
}  // namespace datacloud
#endif
