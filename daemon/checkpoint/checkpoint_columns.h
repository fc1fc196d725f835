// Columns of a sealed piece, and the names of their objects. Pure but for the random number.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/codes/erasure_code.h"

namespace datacloud {

// Columns of a piece side by side, n of them; all of one length.
struct PieceColumns {
  size_t column_bytes = 0;
  Bytes bytes;
  ByteView column(int c) const {
    return ByteView(bytes).subspan(static_cast<size_t>(c) * column_bytes, column_bytes);
  }
};

size_t piece_column_bytes(const ErasureCode&, size_t sealed_bytes);
PieceColumns encode_piece(const ErasureCode&, ByteView sealed);
// `columns[c]` of those present; the piece of `sealed_bytes`. unavailable: too few.
result<Bytes> decode_piece(const ErasureCode&, ColumnSet present, const std::vector<Bytes>& columns,
                           size_t column_bytes, size_t sealed_bytes);
inline ColumnSet data_columns(const ErasureCode& code) {
  return code.k() >= 32 ? ~ColumnSet{0} : (ColumnSet{1} << code.k()) - 1;
}

// ".checkpoint-NUMBER-PIECE-COLUMN".
std::string column_name(uint64_t number, size_t piece, int column);

}  // namespace datacloud
