// Matrices over GF(2^8), polynomial 0x11D (ISA-L's field): what codes and planners need of linear
// algebra. Small and exact; bulk data goes through PacketKernel instead.
//
// Thread safety: values.
#pragma once

#include <optional>
#include <vector>

#include "common/base/bytes.h"

namespace datacloud {

class GfMatrix {
 public:
  GfMatrix() = default;
  GfMatrix(int rows, int columns)  // all zero
      : rows_(rows), columns_(columns), data_(static_cast<size_t>(rows) * columns) {}
  static GfMatrix identity(int size);

  int rows() const { return rows_; }
  int columns() const { return columns_; }
  uint8_t at(int r, int c) const { return data_[index(r, c)]; }
  uint8_t& at(int r, int c) { return data_[index(r, c)]; }
  ByteView row(int r) const { return ByteView(data_).subspan(index(r, 0), columns_); }
  // The first row gives an empty matrix its number of columns.
  void append(ByteView row);
  bool operator==(const GfMatrix&) const = default;

 private:
  size_t index(int r, int c) const { return static_cast<size_t>(r) * columns_ + c; }
  int rows_ = 0, columns_ = 0;
  Bytes data_;
};

GfMatrix product(const GfMatrix& a, const GfMatrix& b);

uint8_t gf_power(uint8_t base, int exponent);

// target += factor * source, element by element, of equal length.
void gf_add_scaled(uint8_t factor, ByteView source, MutableByteView target);

// The span of rows added one after the other. With `tracked` it also knows how to write a row of
// the span as a combination of the rows added, earlier ones first: of a dependent row none is used.
class RowSpace {
 public:
  explicit RowSpace(int width, bool tracked = false);

  // True when the row was not in the span yet.
  bool add(ByteView row);
  bool contains(ByteView row) const;
  int rank() const { return rank_; }
  // One coefficient per row added; nothing when the row is not in the span. Needs `tracked`.
  std::optional<Bytes> express(ByteView row) const;

 private:
  // Subtracts what the span holds of `row`; the same combination is added to `uses`.
  void reduce(Bytes& row, Bytes& uses) const;

  int width_ = 0, rank_ = 0, added_ = 0;
  bool tracked_ = false;
  std::vector<int> basis_of_pivot_;  // by column; -1: none
  std::vector<Bytes> basis_;         // first non-zero element (the pivot) is 1
  std::vector<Bytes> uses_;          // of basis rows, when tracked
};

// X with X * known = wanted, or nothing.
std::optional<GfMatrix> gf_solve(const GfMatrix& known, const GfMatrix& wanted);

}  // namespace datacloud
