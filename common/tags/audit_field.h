// The field of the audit tags: F = GF((2^8)^16), and the sums over it that tags and proofs are.
//
// F is a tower over GF(2^8) (polynomial 0x11D, the field of the erasure codes) of four quadratic
// steps X_i^2 = X_i + c_i, i = 0..3, where c_i is the element of the field below whose last byte is
// 0x20 and whose other bytes are zero. Byte b of an element belongs to the product of those X_i for
// which bit i of b is set. Bytes of GF(2^8) act on F byte by byte, so that what an erasure code
// does to shards it also does to sums of their elements (docs/format.md, "Audit tags").
//
// Nothing here depends on more than GF(2^8) and the standard library: it is linked into the OSD
// class too. Thread safety: values and pure functions; const methods from any thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/base/bytes.h"
#include "common/codes/gf256.h"

namespace datacloud {

struct AuditKernels;  // audit_kernels.h

using FieldElement = std::array<uint8_t, 16>;

inline constexpr size_t kFieldBytes = 16;
inline constexpr size_t kAuditBlockBytes = 4096;  // what one tag covers
inline constexpr size_t kAuditElements = kAuditBlockBytes / kFieldBytes;

FieldElement field_multiply(const FieldElement&, const FieldElement&);
inline FieldElement field_add(FieldElement a, const FieldElement& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] ^= b[i];
  return a;
}
// Of the first 16 bytes.
FieldElement field_element(ByteView);

// out[j] += sum over i of coefficients[j * sources.size() + i] * sources[i], byte by byte over
// GF(2^8). Every view has the length of out[0].
void gf256_combine(const std::vector<uint8_t>& coefficients, const std::vector<ByteView>& sources,
                   const std::vector<MutableByteView>& out);

// sum over i of weights[i] * sources[i], elementwise over F, in pieces: sources of `length` bytes
// (shorter ones count as zero-padded), a multiple of 16.
class FieldCombination {
 public:
  explicit FieldCombination(size_t length);
  void add(const std::vector<FieldElement>& weights, const std::vector<ByteView>& sources);
  Bytes sum() const;

 private:
  const AuditKernels& kernels_;
  const size_t length_;
  Bytes components_;  // 16 rows: row j is the sum of byte j of each weight times its source
};

// sum over c = 1..256 of alpha^c m_c, where a block of 4 KiB is the elements m_1..m_256.
class FieldPolynomial {
 public:
  // `kernels` null: the fastest of this machine.
  explicit FieldPolynomial(const FieldElement& alpha, const AuditKernels* kernels = nullptr);
  // One element per block of `data`; the last block counts as zero-padded. out: 16 bytes each.
  void evaluate(ByteView data, MutableByteView out) const;
  FieldElement evaluate(ByteView block) const;  // at most one block

 private:
  const AuditKernels& kernels_;
  std::shared_ptr<const uint8_t> tables_;  // the kernels', wiped when dropped
};

}  // namespace datacloud
