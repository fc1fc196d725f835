// The one-to-one compound mapping of a reversible visible watermark (Liu and Tsai, "Generic
// lossless visible watermarking: a new approach", IEEE Trans. Image Processing 19(5), 2010), on
// integers only.
//
// F_x orders the values 0..M by their distance from x: x itself becomes 0, its neighbours 1 and 2,
// and so on. For an estimate `a` of a sample p and the value `b` that the mark wants there,
//   q = F_b^-1(F_a(p))   and   p = F_a^-1(F_b(q)):
// the nearer p is to what was estimated, the nearer q is to what the mark wants, and nothing is
// lost.
//
// These are the definitions, one sample at a time; mark_kernels.h has what rows are computed with.
#pragma once

#include <cstdint>

namespace datacloud::watermark {

// F_x(p) for x and p in 0..maximum, where maximum + 1 is a power of two up to 2^16.
constexpr uint32_t distance_rank(uint32_t x, uint32_t p, uint32_t maximum) {
  const uint32_t margin = x < maximum - x ? x : maximum - x;
  const uint32_t distance = p > x ? p - x : x - p;
  if (distance <= margin) return 2 * distance - (p < x ? 1 : 0);
  return x <= maximum / 2 ? p : maximum - p;
}

// F_x^-1(rank): distance_rank(x, value_of_rank(x, r, m), m) == r.
constexpr uint32_t value_of_rank(uint32_t x, uint32_t rank, uint32_t maximum) {
  const uint32_t margin = x < maximum - x ? x : maximum - x;
  if (rank <= 2 * margin) return (rank & 1) != 0 ? x - (rank + 1) / 2 : x + rank / 2;
  return x <= maximum / 2 ? rank : maximum - rank;
}

}  // namespace datacloud::watermark
