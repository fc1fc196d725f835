// Kernels for processors with AVX2: products of 32 bytes by one constant, by two look-ups of
// nibbles.
//
// evaluate: with alpha^c = sum over j of a_{c,j} e_j, the sum of alpha^c m_c is the sum over j of
// e_j times S_j = sum over c of a_{c,j} m_c, where one constant goes with all bytes of m_c: one
// table per lane. There are nine parts of four bytes (audit_parts.h), so that it is 36 products of
// 4 bytes instead of 16 of 16. A lane holds the same quarter of an element of four blocks, so that
// one look-up serves all of them.
#include "common/tags/audit_lanes_avx2.h"
#include "common/tags/audit_parts.h"

#if defined(__x86_64__)

namespace datacloud {
namespace {

constexpr size_t kComponents = kFieldBytes;
constexpr size_t kOutputsTogether = 4;
constexpr size_t kBlocksTogether = 16;
constexpr size_t kVectors = kBlocksTogether / 8;  // of a quarter of each block
constexpr size_t kChunk = 16;                     // elements whose tables lie together
constexpr size_t kChunks = kAuditElements / kChunk;
constexpr size_t kTable = 2 * kFieldBytes;  // low and high look-ups of a constant
constexpr size_t kPartTables = kChunk * kPartBytes * kTable;
constexpr size_t kTablesBytes = kChunks * kParts * kPartTables;

struct Nibbles {
  __m256i low, high;
};

DATACLOUD_AVX2 inline Nibbles nibbles(__m256i data) {
  const __m256i mask = _mm256_set1_epi8(15);
  return {_mm256_and_si256(data, mask), _mm256_and_si256(_mm256_srli_epi64(data, 4), mask)};
}

DATACLOUD_AVX2 inline __m256i product(const Nibbles& data, __m256i low, __m256i high) {
  return _mm256_xor_si256(_mm256_shuffle_epi8(low, data.low), _mm256_shuffle_epi8(high, data.high));
}

// N outputs of V vectors from `at` on, of which there are `left` bytes.
template <size_t N, size_t V>
DATACLOUD_AVX2 inline void combine_at(const uint8_t* coefficients, size_t row, size_t sources,
                                      const uint8_t* const* in, uint8_t* const* out, size_t at,
                                      size_t left) {
  __m256i sums[V][N];
  for (size_t v = 0; v < V; ++v) {
    for (size_t j = 0; j < N; ++j) sums[v][j] = load_some(out[j] + at + v * kLanesBytes, left);
  }
  for (size_t i = 0; i < sources; ++i) {
    Nibbles data[V];
#pragma GCC unroll 2
    for (size_t v = 0; v < V; ++v) data[v] = nibbles(load_some(in[i] + at + v * kLanesBytes, left));
#pragma GCC unroll 4
    for (size_t j = 0; j < N; ++j) {
      const uint8_t* table = kNibbleProducts.of[coefficients[j * row + i]].data();
      const __m256i low = load_twice(table), high = load_twice(table + kFieldBytes);
#pragma GCC unroll 2
      for (size_t v = 0; v < V; ++v) {
        sums[v][j] = _mm256_xor_si256(sums[v][j], product(data[v], low, high));
      }
    }
  }
  for (size_t v = 0; v < V; ++v) {
    for (size_t j = 0; j < N; ++j) store_some(out[j] + at + v * kLanesBytes, sums[v][j], left);
  }
}

template <size_t N>
DATACLOUD_AVX2 void combine_some(const uint8_t* coefficients, size_t row, size_t sources,
                                 const uint8_t* const* in, uint8_t* const* out, size_t length) {
  size_t at = 0;
  for (; length - at >= 2 * kLanesBytes; at += 2 * kLanesBytes) {
    combine_at<N, 2>(coefficients, row, sources, in, out, at, kLanesBytes);
  }
  for (; at < length; at += kLanesBytes) {
    combine_at<N, 1>(coefficients, row, sources, in, out, at, length - at);
  }
}

DATACLOUD_AVX2 void combine(const uint8_t* coefficients, size_t outputs, size_t sources,
                            const uint8_t* const* in, uint8_t* const* out, size_t length) {
  for (size_t j = 0; j < outputs;) {
    const size_t count = outputs - j >= kOutputsTogether ? kOutputsTogether : 1;
    const auto some = count == 1 ? combine_some<1> : combine_some<kOutputsTogether>;
    some(coefficients + j * sources, sources, sources, in, out + j, length);
    j += count;
  }
}

// Chunk by chunk, for each part, element and component: low and high look-ups.
void make_tables(const FieldElement& alpha, uint8_t* tables) {
  FieldElement power = alpha;
  for (size_t c = 0; c < kAuditElements; ++c, power = field_multiply(power, alpha)) {
    for (size_t part = 0; part < kParts; ++part) {
      const auto factor = part_of_element(power, part);
      uint8_t* to =
          tables + (c / kChunk * kParts + part) * kPartTables + c % kChunk * kPartBytes * kTable;
      for (size_t j = 0; j < kPartBytes; ++j) {
        std::memcpy(to + j * kTable, kNibbleProducts.of[factor[j]].data(), kTable);
      }
    }
  }
}

// A vector for each element of a chunk: the same quarter of blocks 0 to 3 and, in the other lane, 4
// to 7 of its eight.
using Quarters = __m256i[4][kVectors][kChunk];
// Sums of the products of a part, by component.
using Sums = __m256i[kParts][kVectors][kPartBytes];

DATACLOUD_AVX2 inline __m256i load_pair(const uint8_t* first) {
  const auto* low = reinterpret_cast<const __m128i*>(first);
  const auto* high = reinterpret_cast<const __m128i*>(first + 4 * kAuditBlockBytes);
  return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(low)),
                                 _mm_loadu_si128(high), 1);
}

DATACLOUD_AVX2 inline void split(const uint8_t* data, Quarters& quarters) {
  for (size_t v = 0; v < kVectors; ++v, data += 8 * kAuditBlockBytes) {
    for (size_t c = 0; c < kChunk; ++c) {
      const uint8_t* from = data + c * kFieldBytes;
      const __m256i a = load_pair(from), b = load_pair(from + kAuditBlockBytes);
      const __m256i d = load_pair(from + 2 * kAuditBlockBytes);
      const __m256i e = load_pair(from + 3 * kAuditBlockBytes);
      const __m256i low = _mm256_unpacklo_epi32(a, b), high = _mm256_unpackhi_epi32(a, b);
      const __m256i other_low = _mm256_unpacklo_epi32(d, e);
      const __m256i other_high = _mm256_unpackhi_epi32(d, e);
      quarters[0][v][c] = _mm256_unpacklo_epi64(low, other_low);
      quarters[1][v][c] = _mm256_unpackhi_epi64(low, other_low);
      quarters[2][v][c] = _mm256_unpacklo_epi64(high, other_high);
      quarters[3][v][c] = _mm256_unpackhi_epi64(high, other_high);
    }
  }
}

// A part: for P (of halves) and K (of their halves) 0, 1 and 2 the lower, the upper, their sum.
template <size_t P, size_t K>
DATACLOUD_AVX2 inline __m256i part_of(const Quarters& q, size_t v, size_t c) {
  if constexpr (P < 2 && K < 2) return q[2 * P + K][v][c];
  if constexpr (P < 2 && K == 2) return q[2 * P][v][c] ^ q[2 * P + 1][v][c];
  if constexpr (P == 2 && K < 2) return q[K][v][c] ^ q[2 + K][v][c];
  return (q[0][v][c] ^ q[1][v][c]) ^ (q[2][v][c] ^ q[3][v][c]);
}

// `ahead`: what comes next, of which every part fetches some.
template <size_t P, size_t K>
DATACLOUD_AVX2 inline void multiply(const uint8_t* tables, const Quarters& quarters, Sums& sums,
                                    const uint8_t* ahead) {
  constexpr size_t kPart = kThird * P + K, kLine = 64;
  const uint8_t* table = tables + kPart * kPartTables;
  __m256i sum[kVectors][kPartBytes];
  for (size_t v = 0; v < kVectors; ++v) {
#pragma GCC unroll 4
    for (size_t j = 0; j < kPartBytes; ++j) sum[v][j] = sums[kPart][v][j];
  }
  for (size_t c = 0; c < kChunk; ++c, table += kPartBytes * kTable) {
    if constexpr (kPart < 4) _mm_prefetch(ahead + (kPart * kChunk + c) * kLine, _MM_HINT_T1);
    Nibbles part[kVectors];
#pragma GCC unroll 2
    for (size_t v = 0; v < kVectors; ++v) part[v] = nibbles(part_of<P, K>(quarters, v, c));
#pragma GCC unroll 4
    for (size_t j = 0; j < kPartBytes; ++j) {
      const __m256i low = load_twice(table + j * kTable);
      const __m256i high = load_twice(table + j * kTable + kFieldBytes);
#pragma GCC unroll 2
      for (size_t v = 0; v < kVectors; ++v) {
        sum[v][j] = _mm256_xor_si256(sum[v][j], product(part[v], low, high));
      }
    }
  }
  for (size_t v = 0; v < kVectors; ++v) {
#pragma GCC unroll 4
    for (size_t j = 0; j < kPartBytes; ++j) sums[kPart][v][j] = sum[v][j];
  }
}

// From sums by component to quarters of the result: the sum over j of e_j S_j.
DATACLOUD_AVX2 inline __m256i added_up(const __m256i (&s)[kPartBytes]) {
  const __m256i low = s[0] ^ times_generator<1>(s[1]);
  return low ^ times_generator<2>(s[2] ^ times_generator<1>(s[3]));
}

// Karatsuba's rule, (low, high, sum) to (low + c high, sum + low), from parts to halves and from
// halves to the elements of eight blocks.
DATACLOUD_AVX2 inline void join(const Sums& sums, size_t v, uint8_t* out) {
  __m256i halves[kThird][2];  // of blocks 0 1 4 5, and of 2 3 6 7
  for (size_t p = 0; p < kThird; ++p) {
    const __m256i low = added_up(sums[kThird * p][v]);
    const __m256i lower = low ^ stepped<4>(added_up(sums[kThird * p + 1][v]));
    const __m256i upper = low ^ added_up(sums[kThird * p + 2][v]);
    halves[p][0] = _mm256_unpacklo_epi32(lower, upper);
    halves[p][1] = _mm256_unpackhi_epi32(lower, upper);
  }
  for (size_t i = 0; i < 2; ++i) {
    const __m256i lower = halves[0][i] ^ stepped<8>(halves[1][i]);
    const __m256i upper = halves[0][i] ^ halves[2][i];
    const __m256i results[] = {_mm256_unpacklo_epi64(lower, upper),
                               _mm256_unpackhi_epi64(lower, upper)};
    for (size_t block = 0; block < 2; ++block) {
      auto* to = reinterpret_cast<__m128i*>(out) + 2 * i + block;
      _mm_storeu_si128(to, _mm256_castsi256_si128(results[block]));
      _mm_storeu_si128(to + 4, _mm256_extracti128_si256(results[block], 1));
    }
  }
}

DATACLOUD_AVX2 void evaluate_many(const uint8_t* tables, const uint8_t* data, uint8_t* out) {
  Sums sums;
  std::memset(&sums, 0, sizeof(sums));
  Quarters quarters;
  constexpr size_t kAhead = kBlocksTogether * kAuditBlockBytes;
  for (size_t chunk = 0; chunk < kChunks; ++chunk, tables += kParts * kPartTables) {
    split(data + chunk * kChunk * kFieldBytes, quarters);
    const uint8_t* ahead = data + kAhead + chunk * (kAhead / kChunks);
    multiply<0, 0>(tables, quarters, sums, ahead);
    multiply<0, 1>(tables, quarters, sums, ahead);
    multiply<0, 2>(tables, quarters, sums, ahead);
    multiply<1, 0>(tables, quarters, sums, ahead);
    multiply<1, 1>(tables, quarters, sums, ahead);
    multiply<1, 2>(tables, quarters, sums, ahead);
    multiply<2, 0>(tables, quarters, sums, ahead);
    multiply<2, 1>(tables, quarters, sums, ahead);
    multiply<2, 2>(tables, quarters, sums, ahead);
  }
  for (size_t v = 0; v < kVectors; ++v) join(sums, v, out + v * 8 * kFieldBytes);
}

// Components of B blocks without Karatsuba's rule, whose parts (0 and 1 of halves and quarters) are
// those of whole elements: row j at components + j * stride, one element a block. The lanes hold
// the low and the high nibbles of one element, as a table does its look-ups.
template <size_t B>
DATACLOUD_AVX2 void evaluate_few(const uint8_t* tables, const uint8_t* data, uint8_t* components,
                                 size_t stride) {
  const __m256i mask = _mm256_set1_epi8(15), turn = _mm256_set_epi64x(4, 4, 0, 0);
  for (size_t quarter = 0; quarter < kComponents / kPartBytes; ++quarter) {
    const size_t part = kThird * (quarter / 2) + quarter % 2;
    __m256i sums[B][kPartBytes] = {};
    for (size_t c = 0; c < kAuditElements; ++c) {
      const uint8_t* table =
          tables + (c / kChunk * kParts + part) * kPartTables + c % kChunk * kPartBytes * kTable;
      __m256i split[B];
#pragma GCC unroll 2
      for (size_t b = 0; b < B; ++b) {
        const auto* from = data + b * kAuditBlockBytes + c * kFieldBytes;
        const __m256i element =
            _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
        split[b] = _mm256_and_si256(_mm256_srlv_epi64(element, turn), mask);
      }
#pragma GCC unroll 4
      for (size_t j = 0; j < kPartBytes; ++j) {
        const auto look_up =
            _mm256_load_si256(reinterpret_cast<const __m256i*>(table + j * kTable));
#pragma GCC unroll 2
        for (size_t b = 0; b < B; ++b) {
          sums[b][j] = _mm256_xor_si256(sums[b][j], _mm256_shuffle_epi8(look_up, split[b]));
        }
      }
    }
    for (size_t b = 0; b < B; ++b) {
      for (size_t j = 0; j < kPartBytes; ++j) {
        const __m128i sum = _mm_xor_si128(_mm256_castsi256_si128(sums[b][j]),
                                          _mm256_extracti128_si256(sums[b][j], 1));
        uint8_t* to = components + (quarter * kPartBytes + j) * stride + b * kFieldBytes;
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), sum);
      }
    }
  }
}

DATACLOUD_AVX2 void evaluate(const uint8_t* tables, const uint8_t* data, size_t blocks,
                             uint8_t* out) {
  for (; blocks >= kBlocksTogether; blocks -= kBlocksTogether) {
    evaluate_many(tables, data, out);
    data += kBlocksTogether * kAuditBlockBytes;
    out += kBlocksTogether * kFieldBytes;
  }
  if (blocks == 0) return;
  constexpr size_t kStride = kBlocksTogether * kFieldBytes;
  uint8_t components[kComponents * kStride];
  for (size_t b = 0; b < blocks; b += 2) {
    const auto some = b + 2 <= blocks ? evaluate_few<2> : evaluate_few<1>;
    some(tables, data + b * kAuditBlockBytes, components + b * kFieldBytes, kStride);
  }
  sum_components_avx2(components, kStride, blocks, out);
}

// One level of the pairing in sum_components.
template <size_t H>
DATACLOUD_AVX2 void sum_level(uint8_t* components, size_t stride, size_t bytes) {
  for (size_t row = 0; row < kFieldBytes; row += 2 * H) {
    uint8_t* to = components + row * stride;
    const uint8_t* from = to + H * stride;
    for (size_t at = 0; at < bytes; at += kLanesBytes) {
      const __m256i product = times_generator<H>(load_some(from + at, bytes - at));
      store_some(to + at, load_some(to + at, bytes - at) ^ product, bytes - at);
    }
  }
}

}  // namespace

void sum_components_avx2(uint8_t* components, size_t stride, size_t elements, uint8_t* out) {
  const size_t bytes = elements * kFieldBytes;
  sum_level<1>(components, stride, bytes);
  sum_level<2>(components, stride, bytes);
  sum_level<4>(components, stride, bytes);
  sum_level<8>(components, stride, bytes);
  std::memcpy(out, components, bytes);
}

const AuditKernels* avx2_audit_kernels() {
  static const AuditKernels kernels{"avx2",      combine,  kTablesBytes,
                                    make_tables, evaluate, sum_components_avx2};
  return __builtin_cpu_supports("avx2") ? &kernels : nullptr;
}

}  // namespace datacloud

#else
namespace datacloud {
const AuditKernels* avx2_audit_kernels() { return nullptr; }
}  // namespace datacloud
#endif
