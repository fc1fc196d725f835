// Arithmetic of single bytes in GF(2^8) (polynomial 0x11D), the field of the erasure codes and of
// the audit tags: products, and tables and matrices of them for kernels.
//
// Nothing here depends on more than the standard library: it is linked into the OSD class too.
// Thread safety: pure functions and constants.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace datacloud {

uint8_t gf256_multiply(uint8_t, uint8_t);

// Products of every byte with every low and every high nibble: x * y = low[y & 15] ^ high[y >> 4].
struct NibbleProducts {
  alignas(32) std::array<std::array<uint8_t, 32>, 256> of;  // low 16, high 16
};
extern const NibbleProducts kNibbleProducts;

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

inline uint64_t multiplication_matrix(uint8_t by) {
  std::array<uint8_t, 8> images;
  for (unsigned i = 0; i < 8; ++i) images[i] = gf256_multiply(by, static_cast<uint8_t>(1u << i));
  return matrix_of(images);
}

inline std::array<uint64_t, 256> make_multiplication_matrices() {
  std::array<uint64_t, 256> matrices;
  for (unsigned x = 0; x < 256; ++x) matrices[x] = multiplication_matrix(static_cast<uint8_t>(x));
  return matrices;
}

}  // namespace datacloud
