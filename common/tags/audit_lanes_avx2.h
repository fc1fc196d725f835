// Vectors of 32 bytes as elements of the fields below F, for kernels with AVX2 (audit_field.h).
//
// Each function works on all elements of H bytes in a vector; H divides 16, so that none crosses a
// lane.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>

#include <array>
#include <cstring>

#include "common/tags/audit_kernels.h"

#define DATACLOUD_AVX2 __attribute__((target("avx2")))

namespace datacloud {

inline constexpr size_t kLanesBytes = 32;

// `bytes`, below 32 of which the rest counts as zero.
DATACLOUD_AVX2 inline __m256i load_some(const uint8_t* from, size_t bytes) {
  if (bytes >= kLanesBytes) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  if (bytes == kFieldBytes) {
    return _mm256_zextsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  alignas(32) std::array<uint8_t, kLanesBytes> some{};
  std::memcpy(some.data(), from, bytes);
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(some.data()));
}

DATACLOUD_AVX2 inline void store_some(uint8_t* to, __m256i vector, size_t bytes) {
  if (bytes >= kLanesBytes) {
    return _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), vector);
  }
  alignas(32) std::array<uint8_t, kLanesBytes> some;
  _mm256_store_si256(reinterpret_cast<__m256i*>(some.data()), vector);
  std::memcpy(to, some.data(), bytes);
}

// 16 bytes, in both lanes.
DATACLOUD_AVX2 inline __m256i load_twice(const uint8_t* from) {
  return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(from)));
}

// The halves of each 2 H bytes exchanged.
template <size_t H>
DATACLOUD_AVX2 inline __m256i exchanged(__m256i a) {
  alignas(16) std::array<uint8_t, kFieldBytes> from;
  for (size_t j = 0; j < kFieldBytes; ++j) from[j] = static_cast<uint8_t>(j ^ H);
  return _mm256_shuffle_epi8(a, load_twice(from.data()));
}

// `high` in the upper half of each 2 H bytes, `low` in the lower.
template <size_t H>
DATACLOUD_AVX2 inline __m256i joined(__m256i low, __m256i high) {
  alignas(16) std::array<uint8_t, kFieldBytes> upper;
  for (size_t j = 0; j < kFieldBytes; ++j) upper[j] = (j & H) != 0 ? 0x80 : 0;
  return _mm256_blendv_epi8(low, high, load_twice(upper.data()));
}

// c times each H bytes, c with 0x20 in the last of them: see multiply_step in audit_kernels.cc.
template <size_t H>
DATACLOUD_AVX2 inline __m256i stepped(__m256i a) {
  if constexpr (H == 1) {
    constexpr uint8_t kStep = 0x20;
    const uint8_t* products = kNibbleProducts.of[kStep].data();
    const __m256i mask = _mm256_set1_epi8(15);
    return _mm256_xor_si256(_mm256_shuffle_epi8(load_twice(products), _mm256_and_si256(a, mask)),
                            _mm256_shuffle_epi8(load_twice(products + 16),
                                                _mm256_and_si256(_mm256_srli_epi64(a, 4), mask)));
  } else {
    const __m256i swapped = exchanged<H / 2>(a);  // below: a1; above: a0
    const __m256i both = joined<H / 2>(swapped, _mm256_xor_si256(swapped, a));  // above: a0 + a1
    const __m256i once = stepped<H / 2>(both);
    return joined<H / 2>(stepped<H / 2>(once), once);
  }
}

// X times each 2 H bytes, X of the step that joins halves of H bytes: X (a0, a1) = (c a1, a0 + a1).
template <size_t H>
DATACLOUD_AVX2 inline __m256i times_generator(__m256i a) {
  const __m256i swapped = exchanged<H>(a);
  return joined<H>(stepped<H>(swapped), _mm256_xor_si256(a, swapped));
}

}  // namespace datacloud
#endif
