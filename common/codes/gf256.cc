// Tables of products, made when this is compiled.
#include "common/codes/gf256.h"

namespace datacloud {
namespace {

constexpr uint8_t slow_product(unsigned a, unsigned b) {
  unsigned product = 0;
  for (; b != 0; b >>= 1) {
    if (b & 1) product ^= a;
    a <<= 1;
    if (a & 0x100) a ^= 0x11d;
  }
  return static_cast<uint8_t>(product);
}

constexpr NibbleProducts make_nibble_products() {
  NibbleProducts products{};
  for (unsigned a = 0; a < 256; ++a) {
    for (unsigned n = 0; n < 16; ++n) {
      products.of[a][n] = slow_product(a, n);
      products.of[a][16 + n] = slow_product(a, n << 4);
    }
  }
  return products;
}

constexpr NibbleProducts kNibbleProductsMade = make_nibble_products();

}  // namespace

const NibbleProducts kNibbleProducts = kNibbleProductsMade;

uint8_t gf256_multiply(uint8_t a, uint8_t b) {
  const auto& products = kNibbleProducts.of[a];
  return products[b & 15] ^ products[16 + (b >> 4)];
}

}  // namespace datacloud
