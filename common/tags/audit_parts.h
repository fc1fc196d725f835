// Karatsuba's rule on the two upper steps of the tower, as vector kernels use it (audit_field.h).
//
// With a = a0 + a1 X and m = m0 + m1 X of halves, and X^2 = X + c, the product a m is made of three
// of halves, low = a0 m0, high = a1 m1 and sum = (a0 + a1)(m0 + m1): it is (low + c high, sum +
// low). Twice, that is nine products of quarters instead of sixteen. Sums over many elements are
// kept for each of the nine parts, and joined once per block.
#pragma once

#include <array>

#include "common/tags/audit_field.h"

namespace datacloud {

inline constexpr size_t kThird = 3;  // low half, high half, their sum
inline constexpr size_t kParts = kThird * kThird;
inline constexpr size_t kPartBytes = 4;

// For part 3 p + k the k-th of the halves (lower, upper, their sum) of the p-th half of an element.
inline std::array<uint8_t, kPartBytes> part_of_element(const FieldElement& e, size_t part) {
  std::array<uint8_t, 8> half{};
  for (size_t i = 0; i < half.size(); ++i) {
    half[i] = static_cast<uint8_t>((part / kThird != 1 ? e[i] : 0) ^
                                   (part / kThird != 0 ? e[half.size() + i] : 0));
  }
  std::array<uint8_t, kPartBytes> quarter{};
  for (size_t i = 0; i < kPartBytes; ++i) {
    quarter[i] = static_cast<uint8_t>((part % kThird != 1 ? half[i] : 0) ^
                                      (part % kThird != 0 ? half[kPartBytes + i] : 0));
  }
  return quarter;
}

}  // namespace datacloud
