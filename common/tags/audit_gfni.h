// What the kernels with GFNI share, whatever the width of their vectors.
//
// GF2P8AFFINEQB multiplies by one constant per 8 bytes over any GF(2^8), which is what combine
// wants. GF2P8MULB multiplies byte by byte, but over polynomial 0x11B; the fields are isomorphic,
// so evaluate maps the data (one instruction per vector), multiplies there, and maps back once.
//
// evaluate: nine parts (audit_parts.h). In each, byte j of a product by a constant is the sum over
// b of M_c[j][b] m[b]. With D_{c,r}[b] = M_c[(b + r) mod 4][b] the sums A_r = sum over c of D_{c,r}
// * m_c need no shuffle, and the result is the sum over r of A_r rotated by r, once per block.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "common/codes/gf256.h"
#include "common/tags/audit_kernels.h"
#include "common/tags/audit_parts.h"

namespace datacloud {

constexpr uint8_t product_11b(unsigned a, unsigned b) {
  unsigned product = 0;
  for (; b != 0; b >>= 1) {
    if (b & 1) product ^= a;
    a <<= 1;
    if (a & 0x100) a ^= 0x11b;
  }
  return static_cast<uint8_t>(product);
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
inline constexpr Isomorphism kIsomorphism = make_isomorphism();

// Tables of evaluate for vectors of `lanes` times 16 bytes, for each part and step: D_{c,r} of that
// part of each alpha^c. A step is 4 `lanes` elements, of which the i-th quarter in lane l belongs
// to element i `lanes` + l.
inline void make_gfni_tables(const FieldElement& alpha, size_t lanes, uint8_t* tables) {
  const size_t vector = lanes * kFieldBytes, steps = kAuditElements / (4 * lanes);
  FieldElement power = alpha;
  for (size_t c = 0; c < kAuditElements; ++c, power = field_multiply(power, alpha)) {
    const size_t place = c % lanes * kFieldBytes + c / lanes % 4 * kPartBytes;
    for (size_t part = 0; part < kParts; ++part) {
      const auto factor = part_of_element(power, part);
      FieldElement wide{};
      std::copy(factor.begin(), factor.end(), wide.begin());
      uint8_t* to = tables + (part * steps + c / (4 * lanes)) * kPartBytes * vector + place;
      for (size_t b = 0; b < kPartBytes; ++b) {
        FieldElement basis{};
        basis[b] = 1;
        const FieldElement column = field_multiply(wide, basis);
        for (size_t r = 0; r < kPartBytes; ++r) {
          to[r * vector + b] = kIsomorphism.there[column[(b + r) % kPartBytes]];
        }
      }
    }
  }
}

}  // namespace datacloud
