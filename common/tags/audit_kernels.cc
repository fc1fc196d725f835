// The portable kernels, and the choice at run time.
//
// The portable evaluation is Horner's rule with a table per byte position: 16 look-ups an element.
#include "common/tags/audit_kernels.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace datacloud {
namespace {

constexpr size_t kRow = 256 * kFieldBytes;  // the products of alpha with one byte position
constexpr uint8_t kStep = 0x20;

void combine(const uint8_t* coefficients, size_t outputs, size_t sources, const uint8_t* const* in,
             uint8_t* const* out, size_t length) {
  for (size_t j = 0; j < outputs; ++j) {
    for (size_t i = 0; i < sources; ++i) {
      const uint8_t by = coefficients[j * sources + i];
      if (length < 256) {  // less than a table
        for (size_t b = 0; b < length; ++b) out[j][b] ^= gf256_multiply(by, in[i][b]);
        continue;
      }
      const auto& products = kNibbleProducts.of[by];
      uint8_t table[256];
      for (size_t x = 0; x < 256; ++x) table[x] = products[x & 15] ^ products[16 + (x >> 4)];
      for (size_t b = 0; b < length; ++b) out[j][b] ^= table[in[i][b]];
    }
  }
}

void make_tables(const FieldElement& alpha, uint8_t* tables) {
  for (size_t position = 0; position < kFieldBytes; ++position) {
    FieldElement basis{};
    basis[position] = 1;
    const FieldElement row = field_multiply(alpha, basis);
    for (size_t byte = 0; byte < 256; ++byte) {
      for (size_t i = 0; i < kFieldBytes; ++i) {
        tables[position * kRow + byte * kFieldBytes + i] =
            gf256_multiply(row[i], static_cast<uint8_t>(byte));
      }
    }
  }
}

void evaluate(const uint8_t* tables, const uint8_t* data, size_t blocks, uint8_t* out) {
  for (size_t block = 0; block < blocks; ++block, data += kAuditBlockBytes, out += kFieldBytes) {
    uint64_t low = 0, high = 0;
    for (size_t c = kAuditElements; c-- > 0;) {
      uint64_t element[2];
      std::memcpy(element, data + c * kFieldBytes, kFieldBytes);
      element[0] ^= low;
      element[1] ^= high;
      uint8_t bytes[kFieldBytes];
      std::memcpy(bytes, element, kFieldBytes);
      low = high = 0;
      for (size_t position = 0; position < kFieldBytes; ++position) {
        uint64_t product[2];
        std::memcpy(product, tables + position * kRow + bytes[position] * kFieldBytes, kFieldBytes);
        low ^= product[0];
        high ^= product[1];
      }
    }
    std::memcpy(out, &low, 8);
    std::memcpy(out + 8, &high, 8);
  }
}

// In place: c * a, where c has 0x20 in the last of its n bytes. c is (0, c of the half), so that
// c (a0 + a1 X) = c' c' a1 + c' (a0 + a1) X.
void multiply_step(uint8_t* a, size_t n) {
  if (n == 1) {
    *a = gf256_multiply(kStep, *a);
    return;
  }
  const size_t h = n / 2;
  for (size_t i = 0; i < h; ++i) {
    const uint8_t high = a[i + h];
    a[i + h] ^= a[i];
    a[i] = high;
  }
  multiply_step(a, h);
  multiply_step(a, h);
  multiply_step(a + h, h);
}

// to += X a, with X of the step that joins halves of h bytes: (a0, a1) -> (c a1, a0 + a1).
void add_times_generator(const uint8_t* a, uint8_t* to, size_t h) {
  for (size_t start = 0; start < kFieldBytes; start += 2 * h) {
    uint8_t stepped[8];
    std::memcpy(stepped, a + start + h, h);
    multiply_step(stepped, h);
    for (size_t i = 0; i < h; ++i) {
      to[start + i] ^= stepped[i];
      to[start + h + i] ^= a[start + i] ^ a[start + h + i];
    }
  }
}

}  // namespace

const AuditKernels kPortableAuditKernels{"portable",  combine,  kFieldBytes* kRow,
                                         make_tables, evaluate, sum_components};

// Pairs of rows, then pairs of those: fifteen products with a generator instead of sixteen with
// any element.
void sum_components(uint8_t* components, size_t stride, size_t elements, uint8_t* out) {
  for (size_t h = 1; h < kFieldBytes; h *= 2) {
    for (size_t row = 0; row < kFieldBytes; row += 2 * h) {
      uint8_t* to = components + row * stride;
      const uint8_t* from = to + h * stride;
      for (size_t e = 0; e < elements; ++e) {
        add_times_generator(from + e * kFieldBytes, to + e * kFieldBytes, h);
      }
    }
  }
  std::memcpy(out, components, elements * kFieldBytes);
}

const std::vector<const AuditKernels*>& usable_audit_kernels() {
  static const auto usable = [] {
    std::vector<const AuditKernels*> found;
    for (const auto* kernels :
         {gfni_audit_kernels(), gfni256_audit_kernels(), avx2_audit_kernels()}) {
      if (kernels != nullptr) found.push_back(kernels);
    }
    found.push_back(&kPortableAuditKernels);
    if (const char* wanted = std::getenv("DATACLOUD_AUDIT_KERNELS")) {
      std::stable_partition(found.begin(), found.end(), [wanted](const auto* kernels) {
        return std::string_view(kernels->name) == wanted;
      });
    }
    return found;
  }();
  return usable;
}

}  // namespace datacloud
