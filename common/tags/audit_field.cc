// Arithmetic of the tower, plainly; the loops over blocks are in audit_kernels_*.cc.
#include "common/tags/audit_field.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "common/tags/audit_kernels.h"

namespace datacloud {
namespace {

constexpr size_t kComponents = kFieldBytes;
constexpr size_t kOutputsMax = 16;  // of one call of a kernel
constexpr uint8_t kStep = 0x20;     // the last byte of each c_i

// out = a * b in the field of n bytes. out may not overlap.
void multiply(const uint8_t* a, const uint8_t* b, uint8_t* out, size_t n) {
  if (n == 1) {
    *out = gf256_multiply(*a, *b);
    return;
  }
  const size_t h = n / 2;
  uint8_t low[8], high[8], cross[8], a_sum[8], b_sum[8], step[8] = {};
  multiply(a, b, low, h);
  multiply(a + h, b + h, high, h);
  for (size_t i = 0; i < h; ++i) {
    a_sum[i] = a[i] ^ a[i + h];
    b_sum[i] = b[i] ^ b[i + h];
  }
  multiply(a_sum, b_sum, cross, h);
  step[h - 1] = kStep;
  multiply(high, step, out, h);
  for (size_t i = 0; i < h; ++i) {
    out[i] ^= low[i];
    out[i + h] = cross[i] ^ low[i];
  }
}

void wipe(uint8_t* p, size_t n) {
  volatile uint8_t* v = p;
  for (size_t i = 0; i < n; ++i) v[i] = 0;
}

}  // namespace

FieldElement field_multiply(const FieldElement& a, const FieldElement& b) {
  FieldElement out;
  multiply(a.data(), b.data(), out.data(), out.size());
  return out;
}

FieldElement field_element(ByteView bytes) {
  FieldElement e;
  std::copy_n(bytes.begin(), e.size(), e.begin());
  return e;
}

void gf256_combine(const std::vector<uint8_t>& coefficients, const std::vector<ByteView>& sources,
                   const std::vector<MutableByteView>& out) {
  if (out.empty() || sources.empty()) return;
  std::vector<const uint8_t*> in;
  for (const auto& source : sources) in.push_back(source.data());
  std::vector<uint8_t*> to;
  for (const auto& view : out) to.push_back(view.data());
  const auto& kernels = *usable_audit_kernels().front();
  for (size_t j = 0; j < to.size(); j += kOutputsMax) {
    kernels.combine(coefficients.data() + j * in.size(), std::min(kOutputsMax, to.size() - j),
                    in.size(), in.data(), to.data() + j, out[0].size());
  }
}

FieldCombination::FieldCombination(size_t length)
    : kernels_(*usable_audit_kernels().front()),
      length_(length),
      components_(kComponents * length) {}

void FieldCombination::add(const std::vector<FieldElement>& weights,
                           const std::vector<ByteView>& sources) {
  Bytes coefficients(kComponents * weights.size());
  std::vector<const uint8_t*> in;
  std::vector<Bytes> padded;
  for (size_t i = 0; i < weights.size(); ++i) {
    for (size_t j = 0; j < kComponents; ++j) coefficients[j * weights.size() + i] = weights[i][j];
    if (sources[i].size() < length_) {
      auto& copy = padded.emplace_back(to_bytes(sources[i]));
      copy.resize(length_);
      in.push_back(copy.data());
    } else {
      in.push_back(sources[i].data());
    }
  }
  std::array<uint8_t*, kComponents> out;
  for (size_t j = 0; j < kComponents; ++j) out[j] = components_.data() + j * length_;
  kernels_.combine(coefficients.data(), kComponents, in.size(), in.data(), out.data(), length_);
}

Bytes FieldCombination::sum() const {
  Bytes components = components_;
  Bytes out(length_);
  kernels_.sum(components.data(), length_, length_ / kFieldBytes, out.data());
  return out;
}

FieldPolynomial::FieldPolynomial(const FieldElement& alpha, const AuditKernels* kernels)
    : kernels_(kernels != nullptr ? *kernels : *usable_audit_kernels().front()) {
  constexpr std::align_val_t kAlignment{64};
  const size_t bytes = kernels_.tables_bytes;
  auto* tables = static_cast<uint8_t*>(::operator new(bytes, kAlignment));
  tables_ = std::shared_ptr<const uint8_t>(tables, [tables, bytes](const uint8_t*) {
    wipe(tables, bytes);
    ::operator delete(tables, kAlignment);
  });
  kernels_.make_tables(alpha, tables);
}

void FieldPolynomial::evaluate(ByteView data, MutableByteView out) const {
  const size_t whole = data.size() / kAuditBlockBytes;
  kernels_.evaluate(tables_.get(), data.data(), whole, out.data());
  const ByteView rest = data.subspan(whole * kAuditBlockBytes);
  if (rest.empty()) return;
  std::array<uint8_t, kAuditBlockBytes> last{};
  std::copy(rest.begin(), rest.end(), last.begin());
  kernels_.evaluate(tables_.get(), last.data(), 1, out.data() + whole * kFieldBytes);
}

FieldElement FieldPolynomial::evaluate(ByteView block) const {
  FieldElement out{};
  evaluate(block.first(std::min(block.size(), kAuditBlockBytes)), out);
  return out;
}

}  // namespace datacloud
