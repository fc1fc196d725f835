// The inner loops of the audit arithmetic, one set per kind of processor, chosen at run time.
//
// All sets compute the same values (tests/common/tags/audit_tag_test.cc runs every usable one). Why
// there is none for PCLMULQDQ: docs/design.md, "Kernels of the audit tags".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/tags/audit_field.h"

namespace datacloud {

struct AuditKernels {
  const char* name;
  // out[j][b] += sum over i of coefficients[j * sources + i] * in[i][b], b < length; outputs <= 16.
  void (*combine)(const uint8_t* coefficients, size_t outputs, size_t sources,
                  const uint8_t* const* in, uint8_t* const* out, size_t length);
  // What evaluate wants to know of alpha, in memory aligned to 64 bytes.
  size_t tables_bytes;
  void (*make_tables)(const FieldElement& alpha, uint8_t* tables);
  // out[16 i ..] = sum over c = 1..256 of alpha^c times element c of block i of `data`.
  void (*evaluate)(const uint8_t* tables, const uint8_t* data, size_t blocks, uint8_t* out);
  // out[16 e ..] = sum over j of e_j times the 16 bytes at components[j * stride + 16 e], where e_j
  // is the element whose byte j is 1; `components` (16 rows) is overwritten.
  void (*sum)(uint8_t* components, size_t stride, size_t elements, uint8_t* out);
};

extern const AuditKernels kPortableAuditKernels;
const AuditKernels* avx2_audit_kernels();     // null: not on this processor
const AuditKernels* gfni256_audit_kernels();  // GFNI and AVX2
const AuditKernels* gfni_audit_kernels();     // GFNI and AVX-512
// Those this processor can run, the fastest first; but what DATACLOUD_AUDIT_KERNELS names
// ("gfni-avx2", "avx2", "portable") comes before, if it can run here.
const std::vector<const AuditKernels*>& usable_audit_kernels();

// AuditKernels::sum, portably.
void sum_components(uint8_t* components, size_t stride, size_t elements, uint8_t* out);
// The same where there is AVX2.
void sum_components_avx2(uint8_t* components, size_t stride, size_t elements, uint8_t* out);

}  // namespace datacloud
