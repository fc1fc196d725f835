// Kernels for processors with GFNI and AVX-512: 64 products of bytes an instruction.
//
// GF2P8AFFINEQB multiplies by one constant per 8 bytes over any GF(2^8), which is what combine
// wants. GF2P8MULB multiplies byte by byte, but over polynomial 0x11B; the fields are isomorphic,
// so evaluate maps the data (one instruction per 64 bytes), multiplies there, and maps back once.
//
// evaluate: byte j of alpha^c m is the sum over b of M_c[j][b] m[b]. With D_{c,r}[b] =
// M_c[(b + r) mod 16][b], the sums A_r = sum over c of D_{c,r} * m_c need no shuffle, and the
// result is the sum over r of A_r rotated by r, once per block.
#include "common/audit_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
// g++ 12 takes the undefined values inside its own AVX-512 intrinsics for uses of ours.
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <algorithm>
#include <cstring>

#define DATACLOUD_GFNI __attribute__((target("gfni,avx512f,avx512bw,avx512vl")))

namespace datacloud {
namespace {

constexpr size_t kVector = 64;
constexpr size_t kRotations = kFieldBytes;
constexpr size_t kChunks = kAuditBlockBytes / kVector;
constexpr size_t kTablesBytes = kChunks * kRotations * kVector;
constexpr size_t kRotationsTogether = 4;  // their tables stay in the first-level cache
constexpr size_t kBlocksTogether = 4;     // share what is loaded of the tables

constexpr uint8_t product_11b(unsigned a, unsigned b) {
  unsigned product = 0;
  for (; b != 0; b >>= 1) {
    if (b & 1) product ^= a;
    a <<= 1;
    if (a & 0x100) a ^= 0x11b;
  }
  return static_cast<uint8_t>(product);
}

// A linear map of bytes given by the images of the bits, as GF2P8AFFINEQB wants it: byte 7 - i
// holds the bits of the source that make bit i.
constexpr uint64_t matrix_of(const std::array<uint8_t, 8>& images) {
  uint64_t matrix = 0;
  for (unsigned i = 0; i < 8; ++i) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      if (images[bit] >> i & 1) matrix |= uint64_t{1} << (8 * (7 - i) + bit);
    }
  }
  return matrix;
}

struct Isomorphism {
  std::array<uint8_t, 256> there{};  // from 0x11D to 0x11B
  uint64_t to = 0, back = 0;         // as matrices
};

// x of 0x11D goes to a root of x^8 + x^4 + x^3 + x^2 + 1 in the other field.
constexpr Isomorphism make_isomorphism() {
  Isomorphism map;
  for (unsigned root = 2; root < 256; ++root) {
    std::array<uint8_t, 9> power{1};
    for (unsigned i = 1; i < 9; ++i) power[i] = product_11b(power[i - 1], root);
    if ((power[8] ^ power[4] ^ power[3] ^ power[2] ^ 1) != 0) continue;
    std::array<uint8_t, 8> images{}, preimages{};
    for (unsigned i = 0; i < 8; ++i) images[i] = power[i];
    for (unsigned x = 0; x < 256; ++x) {
      for (unsigned i = 0; i < 8; ++i) map.there[x] ^= (x >> i & 1) ? images[i] : 0;
      for (unsigned i = 0; i < 8; ++i) {
        if (map.there[x] == 1u << i) preimages[i] = static_cast<uint8_t>(x);
      }
    }
    map.to = matrix_of(images);
    map.back = matrix_of(preimages);
    break;
  }
  return map;
}
constexpr Isomorphism kIsomorphism = make_isomorphism();

uint64_t multiplication_matrix(uint8_t by) {
  std::array<uint8_t, 8> images;
  for (unsigned i = 0; i < 8; ++i) images[i] = gf256_multiply(by, static_cast<uint8_t>(1u << i));
  return matrix_of(images);
}

std::array<uint64_t, 256> make_multiplication_matrices() {
  std::array<uint64_t, 256> matrices;
  for (unsigned x = 0; x < 256; ++x) matrices[x] = multiplication_matrix(static_cast<uint8_t>(x));
  return matrices;
}

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

// D_{c,r} for 4 elements c at a time, grouped by kRotationsTogether rotations.
void make_tables(const FieldElement& alpha, uint8_t* tables) {
  FieldElement power = alpha;
  for (size_t c = 0; c < kAuditElements; ++c, power = field_multiply(power, alpha)) {
    for (size_t b = 0; b < kFieldBytes; ++b) {
      FieldElement basis{};
      basis[b] = 1;
      const FieldElement column = field_multiply(power, basis);
      for (size_t r = 0; r < kRotations; ++r) {
        const size_t group = r / kRotationsTogether, in_group = r % kRotationsTogether;
        uint8_t* vector =
            tables + ((group * kChunks + c / 4) * kRotationsTogether + in_group) * kVector;
        vector[c % 4 * kFieldBytes + b] = kIsomorphism.there[column[(b + r) % kFieldBytes]];
      }
    }
  }
}

// Rotates every 16 bytes up by r.
DATACLOUD_GFNI inline __m512i rotated(__m512i v, size_t r) {
  uint8_t from[kFieldBytes];
  for (size_t j = 0; j < kFieldBytes; ++j) {
    from[j] = static_cast<uint8_t>((j + kFieldBytes - r) % kFieldBytes);
  }
  const __m128i control = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm512_shuffle_epi8(v, _mm512_broadcast_i32x4(control));
}

template <size_t B>
DATACLOUD_GFNI void evaluate_some(const uint8_t* tables, const uint8_t* data, uint8_t* out) {
  constexpr size_t R = kRotationsTogether;
  const __m512i to = _mm512_set1_epi64(static_cast<long long>(kIsomorphism.to));
  const __m512i back = _mm512_set1_epi64(static_cast<long long>(kIsomorphism.back));
  __m512i totals[B];
  for (size_t b = 0; b < B; ++b) totals[b] = _mm512_setzero_si512();
  for (size_t group = 0; group < kRotations / R; ++group) {
    const uint8_t* table = tables + group * kChunks * R * kVector;
    __m512i sums[B][R];
    for (size_t b = 0; b < B; ++b) {
      for (size_t r = 0; r < R; ++r) sums[b][r] = _mm512_setzero_si512();
    }
    const bool last = group + 1 == kRotations / R;
    for (size_t chunk = 0; chunk < kChunks; ++chunk, table += R * kVector) {
      if (last) {  // the next blocks, which are rarely in a cache: a shard is read once
        for (size_t b = 0; b < B; ++b) {
          _mm_prefetch(data + (B + b) * kAuditBlockBytes + chunk * kVector, _MM_HINT_T1);
        }
      }
      __m512i mapped[B];
#pragma GCC unroll 4
      for (size_t b = 0; b < B; ++b) {
        const auto* from = data + b * kAuditBlockBytes + chunk * kVector;
        mapped[b] = _mm512_gf2p8affine_epi64_epi8(_mm512_loadu_si512(from), to, 0);
      }
#pragma GCC unroll 4
      for (size_t r = 0; r < R; ++r) {
        const __m512i by = _mm512_load_si512(table + r * kVector);
#pragma GCC unroll 4
        for (size_t b = 0; b < B; ++b) {
          sums[b][r] = _mm512_xor_si512(sums[b][r], _mm512_gf2p8mul_epi8(mapped[b], by));
        }
      }
    }
    for (size_t b = 0; b < B; ++b) {
      for (size_t r = 0; r < R; ++r) {
        totals[b] = _mm512_xor_si512(totals[b], rotated(sums[b][r], group * R + r));
      }
    }
  }
  for (size_t b = 0; b < B; ++b) {
    const __m512i mapped = _mm512_gf2p8affine_epi64_epi8(totals[b], back, 0);
    const __m256i half =
        _mm256_xor_si256(_mm512_castsi512_si256(mapped), _mm512_extracti64x4_epi64(mapped, 1));
    const __m128i sum =
        _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + b * kFieldBytes), sum);
  }
}

DATACLOUD_GFNI void evaluate(const uint8_t* tables, const uint8_t* data, size_t blocks,
                             uint8_t* out) {
  while (blocks > 0) {
    const size_t count = blocks >= kBlocksTogether ? kBlocksTogether : 1;
    (count == 1 ? evaluate_some<1> : evaluate_some<kBlocksTogether>)(tables, data, out);
    data += count * kAuditBlockBytes;
    out += count * kFieldBytes;
    blocks -= count;
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
