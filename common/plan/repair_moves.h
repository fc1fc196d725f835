// Part of the repair planner: which moves there are, and what each costs. See repair_planner.h.
#pragma once

#include "common/plan/repair_planner.h"

namespace datacloud {

// Lost cells still to be rebuilt, by row.
using Failures = std::vector<ColumnSet>;

class RepairMoves {
 public:
  explicit RepairMoves(const RepairProblem& problem);

  // Cells of a row that a row move can rebuild while `failed` of them are lost.
  ColumnSet decodable(int row, ColumnSet failed) const;
  // The cheapest way to rebuild `targets`, a part of decodable().
  RepairMove row_move(int row, ColumnSet failed, ColumnSet targets) const;
  // The lost cell of a column that a column move can rebuild.
  std::optional<Cell> column_target(int column, const Failures&) const;
  RepairMove column_move(Cell target) const;
  // All equations of the group at once; nothing when they determine none of the cells.
  std::optional<RepairMove> joint_move(const Failures&) const;

  int rows() const { return static_cast<int>(p_.rows.size()); }
  int n() const { return p_.code.n(); }

 private:
  struct Choice {
    std::vector<RepairRead> reads;
    std::optional<RepairPlan> helpers;
  };
  ColumnSet all_columns() const;
  bool is_mds() const { return p_.code.guaranteed_tolerance() == p_.code.m(); }
  bool is_codeword(int row) const;
  ColumnSet readable(int row, ColumnSet failed) const;
  std::vector<SiteId> places(const std::vector<Cell>& rebuilt) const;
  // Reading `bytes` of a cell for work at `place`.
  RepairCost read_cost(Cell, uint64_t bytes, SiteId place) const;
  void set_cost(RepairMove&) const;
  Choice cheapest_columns(int row, ColumnSet available, ColumnSet targets, SiteId place) const;
  Choice helper_reads(int row, const RepairPlan&) const;
  std::vector<uint32_t> weights(const std::vector<RepairCost>&) const;

  const RepairProblem& p_;
  Failures unreachable_;  // without empty columns, which need not be read
};

}  // namespace datacloud
