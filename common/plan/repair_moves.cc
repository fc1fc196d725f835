// Row and column moves and their costs. Pure; see repair_planner.h.
#include "common/plan/repair_moves.h"

#include <algorithm>
#include <bit>

namespace datacloud {
namespace {

// The lexicographic order of (between sites, anywhere) in one number: bytes in 1024ths of the
// largest, bytes between sites counting more than all others of 32 columns.
constexpr uint64_t kWeightSteps = 1024, kInterSiteWeight = kWeightSteps * 32;

std::vector<Cell> cells_of(int row, ColumnSet columns) {
  std::vector<Cell> cells;
  for (int c = 0; columns >> c != 0 && c < 32; ++c)
    if (contains(columns, c)) cells.push_back({row, c});
  return cells;
}

}  // namespace

RepairCost& RepairCost::operator+=(const RepairCost& other) {
  inter_site_bytes += other.inter_site_bytes;
  total_bytes += other.total_bytes;
  operations += other.operations;
  return *this;
}

RepairMoves::RepairMoves(const RepairProblem& problem) : p_(problem) {
  for (const auto& row : p_.rows) {
    ColumnSet stored = 0;
    for (int c = 0; c < n(); ++c)
      if (row.shard_bytes[c] > 0) stored |= ColumnSet{1} << c;
    unreachable_.push_back(row.unreachable & stored);
  }
}

ColumnSet RepairMoves::all_columns() const {
  return n() >= 32 ? ~ColumnSet{0} : (ColumnSet{1} << n()) - 1;
}

// The XOR of codewords is a codeword only when their packets lie at the same places.
bool RepairMoves::is_codeword(int row) const {
  if (!p_.has_xor_row || row + 1 != rows() || p_.code.packets() == 1) return true;
  return std::all_of(p_.rows.begin(), p_.rows.end(), [&](const RepairRow& r) {
    return r.parity_bytes == p_.rows[row].parity_bytes;
  });
}

ColumnSet RepairMoves::readable(int row, ColumnSet failed) const {
  return all_columns() & ~failed & ~unreachable_[row];
}

ColumnSet RepairMoves::decodable(int row, ColumnSet failed) const {
  if (failed == 0 || !is_codeword(row)) return 0;
  const ColumnSet available = readable(row, failed);
  if (is_mds()) return std::popcount(available) >= p_.code.k() ? failed : 0;
  ColumnSet targets = 0;
  for (int c = 0; c < n(); ++c)
    if (contains(failed, c) && p_.code.minimum_to_decode(ColumnSet{1} << c, available, {}))
      targets |= ColumnSet{1} << c;
  return targets;
}

RepairCost RepairMoves::read_cost(Cell cell, uint64_t bytes, SiteId place) const {
  if (bytes == 0) return {};
  const SiteId site = p_.rows[cell.row].sites[cell.column];
  return {place == 0 || site != place ? bytes : 0, bytes, 1};
}

void RepairMoves::set_cost(RepairMove& move) const {
  move.cost = {};
  for (const auto& read : move.reads)
    move.cost += read_cost(read.cell, read.bytes, move.computed_at);
  for (const Cell& cell : move.rebuilt)  // writing costs what reading would
    move.cost += read_cost(cell, p_.rows[cell.row].shard_bytes[cell.column], move.computed_at);
}

// Here, or next to one of the shards to be written.
std::vector<SiteId> RepairMoves::places(const std::vector<Cell>& rebuilt) const {
  std::vector<SiteId> places{p_.local_site};
  for (const Cell& cell : rebuilt) {
    const SiteId site = p_.rows[cell.row].sites[cell.column];
    const bool works = std::count(p_.working_sites.begin(), p_.working_sites.end(), site) > 0;
    if (works && std::count(places.begin(), places.end(), site) == 0) places.push_back(site);
  }
  return places;
}

std::vector<uint32_t> RepairMoves::weights(const std::vector<RepairCost>& costs) const {
  uint64_t largest = 1;
  for (const auto& cost : costs) largest = std::max(largest, cost.total_bytes);
  auto steps = [&](uint64_t bytes) { return (bytes * kWeightSteps + largest - 1) / largest; };
  std::vector<uint32_t> weights;
  for (const auto& cost : costs)
    weights.push_back(static_cast<uint32_t>(steps(cost.inter_site_bytes) * kInterSiteWeight +
                                            steps(cost.total_bytes)));
  return weights;
}

// Which cells of the row to read for `targets` when the work is done at `place`.
RepairMoves::Choice RepairMoves::cheapest_columns(int row, ColumnSet available, ColumnSet targets,
                                                  SiteId place) const {
  const RepairRow& r = p_.rows[row];
  // With one packet only the places of the longest target are needed.
  uint64_t needed = r.parity_bytes;
  if (p_.code.packets() == 1) {
    needed = 0;
    for (int c = 0; c < n(); ++c)
      if (contains(targets, c)) needed = std::max(needed, r.shard_bytes[c]);
  }
  std::vector<uint64_t> bytes(n());
  std::vector<RepairCost> costs(n());
  for (int c = 0; c < n(); ++c) {
    bytes[c] = std::min(r.shard_bytes[c], needed);
    costs[c] = read_cost({row, c}, bytes[c], place);
  }
  ColumnSet chosen = 0;
  if (p_.code.packets() > 1 && std::popcount(targets) == 1 && p_.combine_at_sites) {
    const int lost = std::countr_zero(targets);
    if (auto plan = p_.code.repair_plan(lost, available, weights(costs))) {
      for (const auto& helper : plan.value().helpers)
        if (!RepairPlan::is_plain(helper)) return helper_reads(row, plan.value());
      for (const auto& helper : plan.value().helpers) chosen |= ColumnSet{1} << helper.column;
    }
  } else if (is_mds()) {
    std::vector<int> order;
    for (int c = 0; c < n(); ++c)
      if (contains(available, c)) order.push_back(c);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return costs[a] < costs[b]; });
    for (int i = 0; i < p_.code.k(); ++i) chosen |= ColumnSet{1} << order[i];
  } else if (auto set = p_.code.minimum_to_decode(targets, available, weights(costs))) {
    chosen = set.value();
  }
  Choice choice;
  for (int c = 0; c < n(); ++c)
    if (contains(chosen, c) && bytes[c] > 0) choice.reads.push_back({{row, c}, bytes[c]});
  return choice;
}

RepairMoves::Choice RepairMoves::helper_reads(int row, const RepairPlan& plan) const {
  const RepairRow& r = p_.rows[row];
  const uint64_t packet = r.parity_bytes / p_.code.packets();
  Choice choice{.helpers = plan};
  for (const auto& helper : plan.helpers) {
    const uint64_t sent =
        std::min(packet * helper.coefficients.size(), r.shard_bytes[helper.column]);
    if (sent > 0) choice.reads.push_back({{row, helper.column}, sent});
  }
  return choice;
}

RepairMove RepairMoves::row_move(int row, ColumnSet failed, ColumnSet targets) const {
  const ColumnSet available = readable(row, failed);
  std::optional<RepairMove> best;
  const auto rebuilt = cells_of(row, targets);
  for (const SiteId place : places(rebuilt)) {
    Choice choice = cheapest_columns(row, available, targets, place);
    RepairMove move{.kind = RepairMove::Kind::row,
                    .rebuilt = rebuilt,
                    .reads = std::move(choice.reads),
                    .computed_at = place,
                    .helpers = std::move(choice.helpers)};
    set_cost(move);
    if (!best || move.cost < best->cost) best = std::move(move);
  }
  return *best;
}

std::optional<Cell> RepairMoves::column_target(int column, const Failures& failures) const {
  if (!p_.has_xor_row) return std::nullopt;
  std::optional<Cell> target;
  for (int r = 0; r < rows(); ++r) {
    if (contains(unreachable_[r], column)) return std::nullopt;
    if (!contains(failures[r], column)) continue;
    if (target) return std::nullopt;
    target = Cell{r, column};
  }
  return target;
}

RepairMove RepairMoves::column_move(Cell target) const {
  RepairMove move{.kind = RepairMove::Kind::column, .rebuilt = {target}};
  const uint64_t needed = p_.rows[target.row].shard_bytes[target.column];
  for (int r = 0; r < rows(); ++r) {
    const uint64_t bytes = std::min(needed, p_.rows[r].shard_bytes[target.column]);
    if (r != target.row && bytes > 0) move.reads.push_back({{r, target.column}, bytes});
  }
  std::optional<RepairMove> best;
  for (const SiteId place : places(move.rebuilt)) {
    move.computed_at = place;
    set_cost(move);
    if (!best || move.cost < best->cost) best = move;
  }
  return *best;
}

std::string describe(const RepairMove& move) {
  std::string text = move.kind == RepairMove::Kind::joint ? "joint"
                     : move.kind == RepairMove::Kind::row
                         ? "row " + std::to_string(move.rebuilt[0].row)
                         : "column " + std::to_string(move.rebuilt[0].column);
  for (size_t i = 0; i < move.rebuilt.size(); ++i) {
    const Cell& cell = move.rebuilt[i];
    text += i == 0 ? ": " : ", ";
    if (move.kind == RepairMove::Kind::row) {
      text += (i == 0 ? "column " : "") + std::to_string(cell.column);
    } else {
      text += "row " + std::to_string(cell.row);
      if (move.kind == RepairMove::Kind::joint) text += " column " + std::to_string(cell.column);
    }
  }
  text += " from " + std::to_string(move.reads.size()) +
          (move.helpers ? " helpers, " : " shards, ") + std::to_string(move.cost.total_bytes) +
          " bytes, " + std::to_string(move.cost.inter_site_bytes) + " between sites";
  return text;
}

}  // namespace datacloud
