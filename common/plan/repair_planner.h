// What to do first to bring lost shards back with the fewest bytes between sites. Pure arithmetic.
//
// A group is t stripes and an XOR row over them, each row a codeword of one code (the CORE product
// code of Esmaili, Pamies-Juarez and Datta); a stripe without group is one row. Lost cells of that
// matrix come back by moves:
//   row      decode lost cells of a row from its other cells: k of them, or fewer bytes where the
//            code has helpers that combine (MSR) or local sets (MS-BASIC)
//   column   the one lost cell of a column is the XOR of the column's other cells
//   joint    where neither is possible any more: all equations of the group together
// Cells rebuilt by one move are there for the next. The order decides the cost: connected parts of
// at most kExactCellsMax lost cells get a schedule that is the cheapest there is of row moves (all
// decodable cells of the row, or one of them) and column moves, larger ones a greedy one until they
// have come apart.
//
// Members of a group may differ in length: shorter ones count as padded with zeros.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/codes/erasure_code.h"

namespace datacloud {

inline constexpr int kGroupRowsMax = 16;   // t + 1
inline constexpr int kExactCellsMax = 20;  // lost cells of one connected part; 32 MiB of states

struct Cell {
  int row = 0, column = 0;
  auto operator<=>(const Cell&) const = default;
};

// Compared in this order.
struct RepairCost {
  uint64_t inter_site_bytes = 0;  // read or written across a link
  uint64_t total_bytes = 0;       // read and written anywhere
  uint64_t operations = 0;        // objects read and written
  auto operator<=>(const RepairCost&) const = default;
  RepairCost& operator+=(const RepairCost&);
};

struct RepairRow {
  uint64_t parity_bytes = 0;
  std::vector<uint64_t> shard_bytes;  // n; 0: an empty column, zeros that nobody stores
  std::vector<SiteId> sites;          // n; of a lost shard: where the new one is to be
  ColumnSet lost = 0;                 // to be rebuilt
  ColumnSet unreachable = 0;          // can neither be read nor needs to be rebuilt
};

struct RepairProblem {
  const ErasureCode& code;
  std::vector<RepairRow> rows;  // of a group: its XOR row last
  bool has_xor_row = false;
  SiteId local_site = 0;  // where this process computes; 0: at no site, everything crosses a link
  // Other sites where a move can be computed, next to the shard it writes.
  std::vector<SiteId> working_sites;
  // Helpers combine before they send; else they send all that takes part.
  bool combine_at_sites = true;
};

struct RepairRead {
  Cell cell;
  uint64_t bytes = 0;  // that leave the object
};

struct RepairMove {
  enum class Kind { row, column, joint };
  Kind kind = Kind::row;
  std::vector<Cell> rebuilt;      // ascending
  std::vector<RepairRead> reads;  // ascending; a row move decodes from exactly these and empty ones
  SiteId computed_at = 0;
  RepairCost cost;
  // Row moves of one cell by helpers that send less than they hold.
  std::optional<RepairPlan> helpers;
  // Joint moves: packet i of rebuilt[r] is the sum over reads s and packets j of
  // coefficients[r * packets + i][s * packets + j] * packet j of what is read there.
  std::vector<std::vector<uint8_t>> coefficients;
};
// "row 2: columns 1, 3 from 6 shards, 25165824 bytes, 20971520 between sites".
std::string describe(const RepairMove&);

struct RepairSchedule {
  std::vector<RepairMove> moves;  // in this order
  RepairCost cost;
  // No set of moves brings these back. Final unless some cell is unreachable.
  std::vector<Cell> unrecoverable;
};

enum class RepairStrategy {
  cheapest,
  // For comparison: rows first (columns only when no row decodes), and the other way round.
  row_first,
  column_first,
};

// invalid when rows do not fit the code or each other.
result<RepairSchedule> plan_repair(const RepairProblem&, RepairStrategy = RepairStrategy::cheapest);

// What stays lost, by rows, after row and column moves for as long as there are any. Nothing else
// helps below 12 lost cells of the usual profiles; above, a joint move may.
std::vector<ColumnSet> peel(const RepairProblem&);

}  // namespace datacloud
