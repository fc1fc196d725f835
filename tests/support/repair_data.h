// A group of stripes with real bytes, and the performing of repair moves on it.
#pragma once

#include <algorithm>
#include <bit>

#include "common/codes/gf_matrix.h"
#include "common/plan/repair_planner.h"
#include "tests/support/seeded.h"

namespace datacloud {

// Random data of the lengths a problem states (zeros behind), parity and XOR row computed.
class RepairData {
 public:
  RepairData(const RepairProblem& problem, Seeded& random) : p_(problem) {
    const int k = p_.code.k(), n = p_.code.n(), rows = static_cast<int>(p_.rows.size());
    for (const auto& row : p_.rows) length_ = std::max(length_, row.parity_bytes);
    cells_.assign(rows, std::vector<Bytes>(n, Bytes(length_)));
    for (int r = 0; r + p_.has_xor_row < rows; ++r) {
      for (int c = 0; c < k; ++c) {
        const Bytes bytes = random.bytes(p_.rows[r].shard_bytes[c]);
        std::copy(bytes.begin(), bytes.end(), cells_[r][c].begin());
      }
      std::vector<ByteView> data;
      std::vector<MutableByteView> parity;
      for (int c = 0; c < n; ++c) {
        const MutableByteView view(cells_[r][c].data(), p_.rows[r].parity_bytes);
        if (c < k)
          data.push_back(view);
        else
          parity.push_back(view);
      }
      p_.code.encode(data, parity);
      for (int c = 0; c < n && p_.has_xor_row; ++c)
        ErasureCode::apply_delta(cells_[r][c], cells_.back()[c]);
    }
    truth_ = cells_;
    for (int r = 0; r < rows; ++r)
      for (int c = 0; c < n; ++c)
        if (contains(p_.rows[r].lost | p_.rows[r].unreachable, c) && p_.rows[r].shard_bytes[c] > 0)
          cells_[r][c].assign(length_, 0xEE);
  }

  // Performs a move from exactly what it says it reads; false when the bytes come out wrong.
  [[nodiscard]] bool perform(const RepairMove& move) {
    if (move.kind == RepairMove::Kind::row) return perform_row(move);
    const Cell first = move.rebuilt.at(0);
    if (move.kind == RepairMove::Kind::column) {
      Bytes sum(length_);
      for (const auto& read : move.reads) ErasureCode::apply_delta(received(read), sum);
      sum.resize(p_.rows[first.row].shard_bytes[first.column]);
      sum.resize(length_);
      return put(first, sum);
    }
    const int packets = p_.code.packets();
    const size_t packet = length_ / packets;
    bool right = true;
    for (size_t i = 0; i < move.rebuilt.size(); ++i) {
      Bytes cell(length_);
      for (int j = 0; j < packets; ++j)
        for (size_t s = 0; s < move.reads.size(); ++s)
          for (int q = 0; q < packets; ++q)
            gf_add_scaled(move.coefficients.at(i * packets + j).at(s * packets + q),
                          ByteView(received(move.reads[s])).subspan(q * packet, packet),
                          MutableByteView(cell).subspan(j * packet, packet));
      right = put(move.rebuilt[i], cell) && right;
    }
    return right;
  }

 private:
  Bytes received(const RepairRead& read) const {
    Bytes bytes = cells_[read.cell.row][read.cell.column];
    bytes.resize(read.bytes);
    bytes.resize(length_);
    return bytes;
  }

  bool put(Cell cell, const Bytes& bytes) {
    cells_[cell.row][cell.column] = bytes;
    return bytes == truth_[cell.row][cell.column];
  }

  bool perform_row(const RepairMove& move) {
    const int row = move.rebuilt.at(0).row, n = p_.code.n();
    const size_t length = p_.rows[row].parity_bytes;
    std::vector<Bytes> shards(n, Bytes(length)), out(move.rebuilt.size(), Bytes(length));
    if (move.helpers) {
      std::vector<Bytes> outputs;
      for (const auto& helper : move.helpers->helpers)
        for (const auto& coefficients : helper.coefficients) {
          const auto ranges = p_.code.packet_ranges(length);
          outputs.emplace_back(ranges[0].length);
          for (size_t i = 0; i < ranges.size(); ++i)
            gf_add_scaled(
                coefficients[i],
                ByteView(cells_[row][helper.column]).subspan(ranges[i].offset, ranges[i].length),
                outputs.back());
        }
      if (!p_.code.rebuild(*move.helpers, {outputs.begin(), outputs.end()}, out[0])) return false;
    } else {
      ColumnSet present = 0, wanted = 0;
      for (int c = 0; c < n; ++c)
        if (p_.rows[row].shard_bytes[c] == 0) present |= ColumnSet{1} << c;
      for (const auto& read : move.reads) {
        present |= ColumnSet{1} << read.cell.column;
        shards[read.cell.column] = received(read);
        shards[read.cell.column].resize(length);
      }
      for (const Cell& cell : move.rebuilt) wanted |= ColumnSet{1} << cell.column;
      // A decoder takes any k of those present, so that all of them have to be right.
      const std::vector<ByteView> views(shards.begin(), shards.end());
      if (!p_.code.decode(wanted, present, views, {out.begin(), out.end()})) return false;
    }
    bool right = true;
    for (size_t i = 0; i < move.rebuilt.size(); ++i) {
      // Only the places of the lost shards were read.
      out[i].resize(p_.rows[row].shard_bytes[move.rebuilt[i].column]);
      out[i].resize(length_);
      right = put(move.rebuilt[i], out[i]) && right;
    }
    return right;
  }

  const RepairProblem& p_;
  size_t length_ = 0;
  std::vector<std::vector<Bytes>> cells_, truth_;
};

}  // namespace datacloud
