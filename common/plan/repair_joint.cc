// Joint decode: every parity equation of every row and every column sum, solved together. The last
// means before data are declared lost. Pure; see repair_planner.h.
#include <algorithm>
#include <map>

#include "common/codes/gf_matrix.h"
#include "common/plan/repair_moves.h"

namespace datacloud {
namespace {

// Equations over cells that sum to zero, unknown cells apart from known ones; packets of a cell
// side by side.
class Equations {
 public:
  Equations(const RepairProblem& problem, const Failures& unknown) : p_(problem) {
    for (int r = 0; r < rows(); ++r)
      for (int c = 0; c < p_.code.n(); ++c) {
        const bool is_known = !contains(unknown[r], c);
        // Empty columns are zeros: they take no part.
        if (is_known && p_.rows[r].shard_bytes[c] == 0) continue;
        (is_known ? known_at_ : unknown_at_).emplace(Cell{r, c}, 0);
      }
    for (auto* cells : {&known_at_, &unknown_at_}) {
      int index = 0;
      for (auto& [cell, at] : *cells) at = packets() * index++;
    }
    for (int r = 0; r < rows(); ++r) add_row(r);
    for (int c = 0; c < p_.code.n() && p_.has_xor_row; ++c) add_column(c);
  }

  int unknowns() const { return packets() * static_cast<int>(unknown_at_.size()); }
  int unknown_at(Cell cell) const { return unknown_at_.at(cell); }
  const GfMatrix& of_unknown() const { return of_unknown_; }
  const GfMatrix& of_known() const { return of_known_; }
  const std::map<Cell, int>& known() const { return known_at_; }

 private:
  int packets() const { return p_.code.packets(); }
  int rows() const { return static_cast<int>(p_.rows.size()); }

  void begin() {
    unknown_row_.assign(unknowns(), 0);
    known_row_.assign(packets() * known_at_.size(), 0);
  }
  void put(Cell cell, int packet, uint8_t coefficient) {
    if (const auto it = unknown_at_.find(cell); it != unknown_at_.end())
      unknown_row_[it->second + packet] ^= coefficient;
    else if (const auto at = known_at_.find(cell); at != known_at_.end())
      known_row_[at->second + packet] ^= coefficient;
  }
  void end() {
    if (std::all_of(unknown_row_.begin(), unknown_row_.end(), [](uint8_t x) { return x == 0; }))
      return;
    of_unknown_.append(unknown_row_);
    of_known_.append(known_row_);
  }

  void add_row(int r) {
    const int data = p_.code.k() * packets();
    for (int parity = data; parity < p_.code.n() * packets(); ++parity) {
      begin();
      put({r, parity / packets()}, parity % packets(), 1);
      for (int d = 0; d < data; ++d)
        put({r, d / packets()}, d % packets(), p_.code.coefficient(parity, d));
      end();
    }
  }
  void add_column(int c) {
    for (int i = 0; i < packets(); ++i) {
      begin();
      for (int r = 0; r < rows(); ++r) put({r, c}, i, 1);
      end();
    }
  }

  const RepairProblem& p_;
  std::map<Cell, int> known_at_, unknown_at_;
  GfMatrix of_unknown_, of_known_;
  Bytes unknown_row_, known_row_;
};

}  // namespace

std::optional<RepairMove> RepairMoves::joint_move(const Failures& failures) const {
  for (int r = 0; r < rows(); ++r)
    if (!is_codeword(r)) return std::nullopt;
  Failures unknown = failures;
  for (int r = 0; r < rows(); ++r) unknown[r] |= unreachable_[r];
  const Equations equations(p_, unknown);
  RowSpace space(equations.unknowns(), true);
  for (int e = 0; e < equations.of_unknown().rows(); ++e) space.add(equations.of_unknown().row(e));

  const int packets = p_.code.packets();
  RepairMove move{.kind = RepairMove::Kind::joint, .computed_at = p_.local_site};
  GfMatrix combinations;  // of equations, one row per rebuilt packet
  for (int r = 0; r < rows(); ++r)
    for (int c = 0; c < n(); ++c) {
      if (!contains(failures[r], c)) continue;
      std::vector<Bytes> found;
      for (int i = 0; i < packets; ++i) {
        Bytes unit(equations.unknowns(), 0);
        unit[equations.unknown_at({r, c}) + i] = 1;
        if (auto combination = space.express(unit)) found.push_back(std::move(*combination));
      }
      if (found.size() != static_cast<size_t>(packets)) continue;
      for (const auto& row : found) combinations.append(row);
      move.rebuilt.push_back({r, c});
    }
  if (move.rebuilt.empty()) return std::nullopt;

  const GfMatrix from_known = product(combinations, equations.of_known());
  move.coefficients.resize(from_known.rows());
  for (const auto& [cell, at] : equations.known()) {
    bool used = false;
    for (int r = 0; r < from_known.rows(); ++r)
      for (int i = 0; i < packets; ++i) used = used || from_known.at(r, at + i) != 0;
    if (!used) continue;
    move.reads.push_back({cell, p_.rows[cell.row].shard_bytes[cell.column]});
    for (int r = 0; r < from_known.rows(); ++r)
      for (int i = 0; i < packets; ++i) move.coefficients[r].push_back(from_known.at(r, at + i));
  }
  set_cost(move);
  return move;
}

}  // namespace datacloud
