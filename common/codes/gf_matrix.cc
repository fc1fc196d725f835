// Elimination over GF(2^8). Pure; see gf_matrix.h.
#include "common/codes/gf_matrix.h"

#include <isa-l/erasure_code.h>

#include <algorithm>
#include <array>
#include <cassert>

namespace datacloud {

GfMatrix GfMatrix::identity(int size) {
  GfMatrix m(size, size);
  for (int i = 0; i < size; ++i) m.at(i, i) = 1;
  return m;
}

void GfMatrix::append(ByteView row) {
  assert(rows_ == 0 || row.size() == static_cast<size_t>(columns_));
  columns_ = static_cast<int>(row.size());
  data_.insert(data_.end(), row.begin(), row.end());
  ++rows_;
}

uint8_t gf_power(uint8_t base, int exponent) {
  uint8_t value = 1;
  for (; exponent > 0; --exponent) value = gf_mul(value, base);
  return value;
}

void gf_add_scaled(uint8_t factor, ByteView source, MutableByteView target) {
  assert(source.size() == target.size());
  const size_t length = source.size();
  if (factor == 0) return;
  if (factor == 1) {
    for (size_t i = 0; i < length; ++i) target[i] ^= source[i];
    return;
  }
  std::array<uint8_t, 32> halves;  // products of the low and of the high four bits
  gf_vect_mul_init(factor, halves.data());
  for (size_t i = 0; i < length; ++i)
    target[i] ^= halves[source[i] & 15] ^ halves[16 + (source[i] >> 4)];
}

GfMatrix product(const GfMatrix& a, const GfMatrix& b) {
  assert(a.columns() == b.rows());
  GfMatrix out;
  for (int r = 0; r < a.rows(); ++r) {
    Bytes row(b.columns());
    for (int i = 0; i < a.columns(); ++i) gf_add_scaled(a.at(r, i), b.row(i), row);
    out.append(row);
  }
  return out;
}

RowSpace::RowSpace(int width, bool tracked)
    : width_(width), tracked_(tracked), basis_of_pivot_(width, -1) {}

void RowSpace::reduce(Bytes& row, Bytes& uses) const {
  for (int c = 0; c < width_; ++c) {
    if (row[c] == 0 || basis_of_pivot_[c] < 0) continue;
    const size_t b = basis_of_pivot_[c];
    const uint8_t factor = row[c];
    gf_add_scaled(factor, basis_[b], row);
    if (!tracked_) continue;
    gf_add_scaled(factor, uses_[b], MutableByteView(uses).first(uses_[b].size()));
  }
}

bool RowSpace::add(ByteView row) {
  assert(row.size() == static_cast<size_t>(width_));
  ++added_;
  Bytes rest = to_bytes(row), uses(tracked_ ? added_ : 0);
  if (tracked_) uses.back() = 1;
  reduce(rest, uses);
  const auto pivot = std::find_if(rest.begin(), rest.end(), [](uint8_t x) { return x != 0; });
  if (pivot == rest.end()) return false;
  const uint8_t scale = gf_inv(*pivot);
  basis_of_pivot_[pivot - rest.begin()] = rank_++;
  for (auto& x : rest) x = gf_mul(x, scale);
  for (auto& x : uses) x = gf_mul(x, scale);
  basis_.push_back(std::move(rest));
  uses_.push_back(std::move(uses));
  return true;
}

bool RowSpace::contains(ByteView row) const {
  Bytes rest = to_bytes(row), uses(tracked_ ? added_ : 0);
  reduce(rest, uses);
  return std::all_of(rest.begin(), rest.end(), [](uint8_t x) { return x == 0; });
}

std::optional<Bytes> RowSpace::express(ByteView row) const {
  assert(tracked_);
  Bytes rest = to_bytes(row), uses(added_);
  reduce(rest, uses);
  if (std::any_of(rest.begin(), rest.end(), [](uint8_t x) { return x != 0; })) return std::nullopt;
  return uses;
}

std::optional<GfMatrix> gf_solve(const GfMatrix& known, const GfMatrix& wanted) {
  RowSpace space(known.columns(), true);
  for (int r = 0; r < known.rows(); ++r) space.add(known.row(r));
  GfMatrix out;
  for (int r = 0; r < wanted.rows(); ++r) {
    const auto combination = space.express(wanted.row(r));
    if (!combination) return std::nullopt;
    out.append(*combination);
  }
  return out;
}

}  // namespace datacloud
