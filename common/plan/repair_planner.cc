// The scheduler: peel, connected parts, exact or greedy, joint decode of the rest. Pure.
#include "common/plan/repair_planner.h"

#include <algorithm>
#include <bit>
#include <unordered_map>

#include "common/plan/repair_moves.h"

namespace datacloud {
namespace {

bool is_empty(const Failures& failures) {
  return std::all_of(failures.begin(), failures.end(), [](ColumnSet s) { return s == 0; });
}

std::vector<Cell> cells_of(const Failures& failures) {
  std::vector<Cell> cells;
  for (size_t r = 0; r < failures.size(); ++r)
    for (int c = 0; c < 32; ++c)
      if (contains(failures[r], c)) cells.push_back({static_cast<int>(r), c});
  return cells;
}

void clear(Failures& failures, const std::vector<Cell>& cells) {
  for (const Cell& cell : cells) failures[cell.row] &= ~(ColumnSet{1} << cell.column);
}

// Cells that share a row or a column, directly or through others.
std::vector<Failures> connected_parts(Failures rest) {
  std::vector<Failures> parts;
  while (!is_empty(rest)) {
    Failures part(rest.size(), 0);
    const auto first = std::find_if(rest.begin(), rest.end(), [](ColumnSet s) { return s != 0; });
    part[first - rest.begin()] = *first;
    ColumnSet columns = *first;
    for (bool grown = true; grown;) {
      grown = false;
      for (size_t r = 0; r < rest.size(); ++r) {
        if ((rest[r] & columns) == 0 || part[r] == rest[r]) continue;
        part[r] = rest[r];
        columns |= rest[r];
        grown = true;
      }
    }
    for (size_t r = 0; r < rest.size(); ++r) rest[r] &= ~part[r];
    parts.push_back(std::move(part));
  }
  return parts;
}

Failures peel_moves(const RepairMoves& moves, Failures failures) {
  for (bool moved = true; moved;) {
    moved = false;
    for (int r = 0; r < moves.rows(); ++r) {
      const ColumnSet rebuilt = moves.decodable(r, failures[r]);
      failures[r] &= ~rebuilt;
      moved = moved || rebuilt != 0;
    }
    for (int c = 0; c < moves.n(); ++c)
      if (const auto cell = moves.column_target(c, failures)) {
        clear(failures, {*cell});
        moved = true;
      }
  }
  return failures;
}

// The cheapest schedule for one connected part: the shortest path through the sets of lost cells.
// Every move leaves a subset, a smaller number, so going down through the numbers visits each set
// after all sets it can come from.
class ExactSchedule {
 public:
  ExactSchedule(const RepairMoves& moves, const Failures& part, const Failures& residual)
      : moves_(moves), cells_(cells_of(part)), row_moves_(part.size()) {
    for (size_t i = 0; i < cells_.size(); ++i) {
      if (contains(residual[cells_[i].row], cells_[i].column)) goal_ |= 1u << i;
      column_costs_.push_back(moves_.column_move(cells_[i]).cost);
    }
    best_.resize(size_t{1} << cells_.size());
  }

  std::vector<RepairMove> find() {
    const uint32_t all = static_cast<uint32_t>(best_.size() - 1);
    best_[all].reached = true;
    for (uint32_t state = all; state > goal_; --state)
      if (best_[state].reached) expand(state);
    std::vector<RepairMove> path;
    for (uint32_t state = goal_; state != all;) {
      const uint32_t before = state | best_[state].cleared;
      path.push_back(move_of(before, best_[state]));
      state = before;
    }
    std::reverse(path.begin(), path.end());
    return path;
  }

 private:
  struct Best {
    RepairCost cost;
    uint32_t cleared = 0;  // by the last move
    bool reached = false, by_row = false;
  };
  struct RowOption {
    ColumnSet targets;
    RepairCost cost;
  };

  Failures failures_of(uint32_t state) const {
    Failures failures(row_moves_.size(), 0);
    for (size_t i = 0; i < cells_.size(); ++i)
      if (state >> i & 1u) failures[cells_[i].row] |= ColumnSet{1} << cells_[i].column;
    return failures;
  }

  uint32_t bits_of(int row, ColumnSet targets) const {
    uint32_t bits = 0;
    for (size_t i = 0; i < cells_.size(); ++i)
      if (cells_[i].row == row && contains(targets, cells_[i].column)) bits |= 1u << i;
    return bits;
  }

  const std::vector<RowOption>& row_options(int row, ColumnSet failed) {
    const auto [it, is_new] = row_moves_[row].try_emplace(failed);
    if (!is_new) return it->second;
    const ColumnSet targets = moves_.decodable(row, failed);
    if (targets == 0) return it->second;
    it->second.push_back({targets, moves_.row_move(row, failed, targets).cost});
    if (std::popcount(targets) == 1) return it->second;
    for (int c = 0; c < moves_.n(); ++c) {
      const ColumnSet one = ColumnSet{1} << c;
      if ((targets & one) != 0) it->second.push_back({one, moves_.row_move(row, failed, one).cost});
    }
    return it->second;
  }

  void relax(uint32_t state, uint32_t cleared, const RepairCost& cost, bool by_row) {
    RepairCost sum = best_[state].cost;
    sum += cost;
    Best& to = best_[state & ~cleared];
    if (to.reached && to.cost <= sum) return;
    to = {sum, cleared, true, by_row};
  }

  void expand(uint32_t state) {
    const Failures failures = failures_of(state);
    for (int r = 0; r < moves_.rows(); ++r) {
      if (failures[r] == 0) continue;
      for (const RowOption& option : row_options(r, failures[r]))
        relax(state, bits_of(r, option.targets), option.cost, true);
    }
    for (size_t i = 0; i < cells_.size(); ++i)
      if ((state >> i & 1u) != 0 && moves_.column_target(cells_[i].column, failures))
        relax(state, 1u << i, column_costs_[i], false);
  }

  RepairMove move_of(uint32_t before, const Best& best) const {
    const Failures failures = failures_of(before);
    ColumnSet targets = 0;
    Cell cell;
    for (size_t i = 0; i < cells_.size(); ++i)
      if (best.cleared >> i & 1u) {
        cell = cells_[i];
        targets |= ColumnSet{1} << cell.column;
      }
    return best.by_row ? moves_.row_move(cell.row, failures[cell.row], targets)
                       : moves_.column_move(cell);
  }

  const RepairMoves& moves_;
  const std::vector<Cell> cells_;
  uint32_t goal_ = 0;  // what no move can clear
  std::vector<std::unordered_map<ColumnSet, std::vector<RowOption>>> row_moves_;
  std::vector<RepairCost> column_costs_;
  std::vector<Best> best_;
};

// Fewer bytes per cell rebuilt.
bool is_better(const RepairMove& a, const RepairMove& b) {
  const uint64_t a_cells = a.rebuilt.size(), b_cells = b.rebuilt.size();
  const RepairCost per_a{a.cost.inter_site_bytes * b_cells, a.cost.total_bytes * b_cells,
                         a.cost.operations * b_cells};
  const RepairCost per_b{b.cost.inter_site_bytes * a_cells, b.cost.total_bytes * a_cells,
                         b.cost.operations * a_cells};
  return per_a < per_b;
}

std::optional<RepairMove> greedy_move(const RepairMoves& moves, const Failures& failures) {
  std::optional<RepairMove> best;
  auto consider = [&](RepairMove move) {
    if (!best || is_better(move, *best)) best = std::move(move);
  };
  for (int r = 0; r < moves.rows(); ++r)
    if (const ColumnSet targets = moves.decodable(r, failures[r]))
      consider(moves.row_move(r, failures[r], targets));
  for (int c = 0; c < moves.n(); ++c)
    if (const auto cell = moves.column_target(c, failures)) consider(moves.column_move(*cell));
  return best;
}

// The baselines: the first row that decodes, the first column with one lost cell.
std::optional<RepairMove> first_move(const RepairMoves& moves, const Failures& failures,
                                     bool rows_first) {
  for (const bool rows : {rows_first, !rows_first}) {
    for (int r = 0; r < moves.rows() && rows; ++r)
      if (const ColumnSet targets = moves.decodable(r, failures[r]))
        return moves.row_move(r, failures[r], targets);
    for (int c = 0; c < moves.n() && !rows; ++c)
      if (const auto cell = moves.column_target(c, failures)) return moves.column_move(*cell);
  }
  return std::nullopt;
}

void perform(RepairMove move, Failures& failures, RepairSchedule& schedule) {
  clear(failures, move.rebuilt);
  schedule.cost += move.cost;
  schedule.moves.push_back(std::move(move));
}

void schedule_cheapest(const RepairMoves& moves, Failures& failures, RepairSchedule& schedule) {
  const Failures residual = peel_moves(moves, failures);
  auto waiting = connected_parts(failures);
  while (!waiting.empty()) {
    const Failures part = std::move(waiting.back());
    waiting.pop_back();
    if (cells_of(part).size() <= kExactCellsMax) {
      for (auto& move : ExactSchedule(moves, part, residual).find())
        perform(std::move(move), failures, schedule);
      continue;
    }
    auto move = greedy_move(moves, part);
    if (!move) continue;
    Failures rest = part;
    clear(rest, move->rebuilt);
    perform(std::move(*move), failures, schedule);
    for (auto& smaller : connected_parts(std::move(rest))) waiting.push_back(std::move(smaller));
  }
}

result<void> check(const RepairProblem& p) {
  const size_t n = p.code.n();
  if (p.rows.empty() || p.rows.size() > kGroupRowsMax || (p.rows.size() > 1) != p.has_xor_row)
    return failure(Errc::invalid, "a repair takes one stripe, or 1 to " +
                                      std::to_string(kGroupRowsMax - 1) +
                                      " stripes and their XOR row");
  for (const auto& row : p.rows) {
    bool fits = row.shard_bytes.size() == n && row.sites.size() == n &&
                row.parity_bytes % p.code.packets() == 0 && (row.lost & row.unreachable) == 0 &&
                (n >= 32 || ((row.lost | row.unreachable) >> n) == 0);
    for (size_t c = 0; fits && c < n; ++c) fits = row.shard_bytes[c] <= row.parity_bytes;
    if (!fits)
      return failure(Errc::invalid, "row " + std::to_string(&row - p.rows.data()) +
                                        " of a group to be repaired does not fit " + p.code.name());
  }
  return success();
}

// Lost cells by row; empty columns cannot be lost.
Failures failures_of(const RepairProblem& p) {
  Failures failures;
  for (const auto& row : p.rows) {
    ColumnSet lost = 0;
    for (size_t c = 0; c < row.shard_bytes.size(); ++c)
      if (row.shard_bytes[c] > 0) lost |= row.lost & ColumnSet{1} << c;
    failures.push_back(lost);
  }
  return failures;
}

}  // namespace

result<RepairSchedule> plan_repair(const RepairProblem& problem, RepairStrategy strategy) {
  TRY(check(problem));
  const RepairMoves moves(problem);
  Failures failures = failures_of(problem);
  RepairSchedule schedule;
  if (strategy == RepairStrategy::cheapest) {
    schedule_cheapest(moves, failures, schedule);
  } else {
    const bool rows_first = strategy == RepairStrategy::row_first;
    while (auto move = first_move(moves, failures, rows_first))
      perform(std::move(*move), failures, schedule);
  }
  if (!is_empty(failures) && problem.has_xor_row)
    if (auto move = moves.joint_move(failures)) perform(std::move(*move), failures, schedule);
  schedule.unrecoverable = cells_of(failures);
  return schedule;
}

std::vector<ColumnSet> peel(const RepairProblem& problem) {
  return peel_moves(RepairMoves(problem), failures_of(problem));
}

}  // namespace datacloud
