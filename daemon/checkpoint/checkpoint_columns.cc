// Coding of pieces, names, and what losses they survive (checkpoint_columns.h, checkpoint.h).
#include "daemon/checkpoint/checkpoint_columns.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <functional>

#include "common/store/hidden_names.h"
#include "daemon/checkpoint/checkpoint.h"

namespace datacloud {

size_t piece_column_bytes(const ErasureCode& code, size_t sealed_bytes) {
  const auto k = static_cast<size_t>(code.k()), unit = static_cast<size_t>(code.packets());
  const size_t share = (sealed_bytes + k - 1) / k;
  return (share + unit - 1) / unit * unit;
}

PieceColumns encode_piece(const ErasureCode& code, ByteView sealed) {
  PieceColumns columns;
  columns.column_bytes = piece_column_bytes(code, sealed.size());
  columns.bytes.resize(columns.column_bytes * static_cast<size_t>(code.n()));
  std::copy(sealed.begin(), sealed.end(), columns.bytes.begin());
  std::vector<ByteView> data;
  std::vector<MutableByteView> parity;
  for (int c = 0; c < code.n(); ++c) {
    if (c < code.k()) {
      data.push_back(columns.column(c));
    } else {
      parity.push_back(
          MutableByteView(columns.bytes)
              .subspan(static_cast<size_t>(c) * columns.column_bytes, columns.column_bytes));
    }
  }
  code.encode(data, parity);
  return columns;
}

result<Bytes> decode_piece(const ErasureCode& code, ColumnSet present,
                           const std::vector<Bytes>& columns, size_t column_bytes,
                           size_t sealed_bytes) {
  Bytes piece(column_bytes * static_cast<size_t>(code.k()));
  const ColumnSet wanted = data_columns(code) & ~present;
  std::vector<ByteView> shards(static_cast<size_t>(code.n()));
  std::vector<MutableByteView> out;
  for (int c = 0; c < code.n(); ++c) {
    const MutableByteView place =
        c < code.k()
            ? MutableByteView(piece).subspan(static_cast<size_t>(c) * column_bytes, column_bytes)
            : MutableByteView();
    if (contains(wanted, c)) out.push_back(place);
    if (!contains(present, c)) continue;
    shards[static_cast<size_t>(c)] = columns[static_cast<size_t>(c)];
    if (c < code.k()) {
      std::copy(columns[static_cast<size_t>(c)].begin(), columns[static_cast<size_t>(c)].end(),
                place.begin());
    }
  }
  if (wanted != 0) {
    TRY(code.decode(wanted, present, shards, out));
  }
  piece.resize(sealed_bytes);
  return piece;
}

std::string column_name(uint64_t number, size_t piece, int column) {
  return fmt::format("{}{:016x}-{}-{}", kHiddenPrefix, number, piece, column);
}

result<uint64_t> random_checkpoint_number() {
  uint64_t number = 0;
  while (number == 0) {
    if (::getrandom(&number, sizeof number, 0) != sizeof number) {
      return failure(Error::posix(errno, "no random bytes for a checkpoint"));
    }
  }
  return number;
}

int survived_losses(std::vector<int> columns_of_sites, int tolerance) {
  std::sort(columns_of_sites.begin(), columns_of_sites.end(), std::greater<>());
  int sites = 0;
  for (const int columns : columns_of_sites) {
    tolerance -= columns;
    if (tolerance < 0) break;
    ++sites;
  }
  return sites;
}

}  // namespace datacloud
