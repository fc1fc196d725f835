// Which columns to read: the cheapest set that determines what is wanted.
//
// MDS codes take the cheapest k. Else a branch-and-bound search over the available columns in order
// of cost: at least (missing rank) / packets further columns are needed, and their cheapest sum
// bounds a branch from below. n is at most 16 for the codes that come here, most searches end
// after tens of steps.
#include <algorithm>
#include <array>
#include <bit>
#include <numeric>

#include "common/codes/linear_code.h"

namespace datacloud {
namespace {

// Cost first, then the number of columns; sums of 32 of them do not overflow.
constexpr uint64_t kOneColumn = 1, kOneCost = 64;

class CheapestSet {
 public:
  struct Candidate {
    uint64_t weight;
    ColumnSet column;
    GfMatrix rows;
  };
  CheapestSet(std::vector<Candidate> candidates, GfMatrix wanted, int packets)
      : candidates_(std::move(candidates)), wanted_(std::move(wanted)), packets_(packets) {}

  // The cheapest set of candidates that, with what `known` spans, determines the wanted rows.
  std::optional<ColumnSet> find(const RowSpace& known) {
    search(0, known, 0, 0);
    return best_ == UINT64_MAX ? std::nullopt : std::optional(best_set_);
  }

 private:
  size_t columns_missing(const RowSpace& known) const {
    RowSpace with_wanted = known;
    for (int r = 0; r < wanted_.rows(); ++r) with_wanted.add(wanted_.row(r));
    return (with_wanted.rank() - known.rank() + packets_ - 1) / packets_;
  }

  void search(size_t next, const RowSpace& known, uint64_t weight, ColumnSet set) {
    const size_t missing = columns_missing(known);
    if (missing == 0) {
      best_ = weight;
      best_set_ = set;
      return;
    }
    for (; next + missing <= candidates_.size(); ++next) {
      uint64_t least = weight;
      for (size_t i = next; i < next + missing; ++i) least += candidates_[i].weight;
      if (least >= best_) return;  // candidates are sorted: later ones cost no less
      RowSpace with_next = known;
      bool useful = false;
      const GfMatrix& rows = candidates_[next].rows;
      for (int r = 0; r < rows.rows(); ++r) useful = with_next.add(rows.row(r)) || useful;
      if (useful)
        search(next + 1, with_next, weight + candidates_[next].weight,
               set | candidates_[next].column);
    }
  }

  const std::vector<Candidate> candidates_;
  const GfMatrix wanted_;
  const int packets_;
  uint64_t best_ = UINT64_MAX;
  ColumnSet best_set_ = 0;
};

}  // namespace

result<void> LinearCode::check_request(ColumnSet wanted, const std::vector<uint32_t>& cost) const {
  if ((wanted & ~all_columns()) != 0 || (!cost.empty() && cost.size() != static_cast<size_t>(n())))
    return failure(Errc::invalid, d_.name + " has " + std::to_string(n()) +
                                      " columns; columns or costs asked for do not fit it");
  return success();
}

result<ColumnSet> LinearCode::minimum_to_decode(ColumnSet wanted, ColumnSet available,
                                                const std::vector<uint32_t>& cost) const {
  TRY(check_request(wanted, cost));
  available &= all_columns();
  ColumnSet chosen = wanted & available;
  if (chosen == wanted) return chosen;
  std::array<int, kCodeColumnsMax> order;
  const auto end = order.begin() + n();
  std::iota(order.begin(), end, 0);
  if (!cost.empty())
    std::stable_sort(order.begin(), end, [&](int a, int b) { return cost[a] < cost[b]; });
  if (is_mds()) {
    if (std::popcount(available) < d_.k) return failure(too_few(available));
    for (auto c = order.begin(); c != end && std::popcount(chosen) < d_.k; ++c)
      if (contains(available, *c)) chosen |= ColumnSet{1} << *c;
    return chosen;
  }
  RowSpace known(d_.generator.columns()), reachable(d_.generator.columns());
  const GfMatrix given = rows_of(chosen), all = rows_of(available),
                 missing = rows_of(wanted & ~chosen);
  for (int r = 0; r < given.rows(); ++r) known.add(given.row(r));
  for (int r = 0; r < all.rows(); ++r) reachable.add(all.row(r));
  for (int r = 0; r < missing.rows(); ++r)
    if (!reachable.contains(missing.row(r))) return failure(too_few(available));
  std::vector<CheapestSet::Candidate> candidates;
  for (auto c = order.begin(); c != end; ++c) {
    const ColumnSet column = ColumnSet{1} << *c;
    if ((available & ~chosen & column) == 0) continue;
    const uint64_t weight = kOneCost * (cost.empty() ? 1 : cost[*c]) + kOneColumn;
    candidates.push_back({weight, column, rows_of(column)});
  }
  const auto more = CheapestSet(std::move(candidates), missing, d_.packets).find(known);
  return more ? result<ColumnSet>(chosen | *more) : failure(too_few(available));
}

}  // namespace datacloud
