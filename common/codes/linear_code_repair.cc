// Repair of one column: helpers that combine at their sites where the code has them, else columns.
#include <algorithm>
#include <bit>
#include <cassert>

#include "common/codes/linear_code.h"

namespace datacloud {
namespace {

uint64_t cost_of(const std::vector<uint32_t>& cost, int column) {
  return cost.empty() ? 1 : cost[column];
}

// Outputs that the rebuilding does not use are not asked for.
RepairPlan without_idle_outputs(int lost, const std::vector<RepairHelper>& helpers,
                                const GfMatrix& rebuild, const std::vector<uint32_t>& cost) {
  RepairPlan plan{.lost = lost};
  plan.rebuild.resize(rebuild.rows());
  int output = 0;
  for (const auto& helper : helpers) {
    RepairHelper kept{.column = helper.column};
    for (const auto& coefficients : helper.coefficients) {
      bool used = false;
      for (int i = 0; i < rebuild.rows(); ++i) used = used || rebuild.at(i, output) != 0;
      if (used) {
        kept.coefficients.push_back(coefficients);
        for (int i = 0; i < rebuild.rows(); ++i) plan.rebuild[i].push_back(rebuild.at(i, output));
      }
      ++output;
    }
    if (kept.coefficients.empty()) continue;
    plan.packet_cost += cost_of(cost, helper.column) * kept.coefficients.size();
    plan.helpers.push_back(std::move(kept));
  }
  return plan;
}

size_t outputs_of(const RepairPlan& plan) {
  return plan.rebuild.empty() ? 0 : plan.rebuild[0].size();
}

}  // namespace

result<RepairPlan> LinearCode::repair_plan(int lost, ColumnSet available,
                                           const std::vector<uint32_t>& cost) const {
  if (lost < 0 || lost >= n())
    return failure(Errc::invalid, d_.name + " has no column " + std::to_string(lost));
  const ColumnSet wanted = ColumnSet{1} << lost;
  TRY(check_request(wanted, cost));
  available &= all_columns() & ~wanted;
  TRY(const ColumnSet columns, minimum_to_decode(wanted, available, cost));
  TRY(auto plan, plan_of_columns(lost, columns, cost));
  if (d_.repair_helpers == 0 || std::popcount(available) < d_.repair_helpers) return plan;

  std::vector<int> order;
  for (int c = 0; c < n(); ++c)
    if (contains(available, c)) order.push_back(c);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return cost_of(cost, a) < cost_of(cost, b); });
  ColumnSet helpers = 0;
  for (int i = 0; i < d_.repair_helpers; ++i) helpers |= ColumnSet{1} << order[i];
  TRY(auto combined, plan_of_helpers(lost, helpers, cost));
  const bool cheaper = std::pair(combined.packet_cost, outputs_of(combined)) <
                       std::pair(plan.packet_cost, outputs_of(plan));
  return cheaper ? std::move(combined) : std::move(plan);
}

result<RepairPlan> LinearCode::plan_of_columns(int lost, ColumnSet columns,
                                               const std::vector<uint32_t>& cost) const {
  const auto rebuild = gf_solve(rows_of(columns), rows_of(ColumnSet{1} << lost));
  if (!rebuild) return failure(too_few(columns));
  std::vector<RepairHelper> helpers;
  for (int c = 0; c < n(); ++c) {
    if (!contains(columns, c)) continue;
    RepairHelper helper{.column = c};
    for (int i = 0; i < d_.packets; ++i) {
      helper.coefficients.emplace_back(d_.packets, 0);
      helper.coefficients.back()[i] = 1;
    }
    helpers.push_back(std::move(helper));
  }
  return without_idle_outputs(lost, helpers, *rebuild, cost);
}

result<RepairPlan> LinearCode::plan_of_helpers(int lost, ColumnSet columns,
                                               const std::vector<uint32_t>& cost) const {
  const ByteView vector = d_.helper_coefficients.row(lost);
  std::vector<RepairHelper> helpers;
  GfMatrix sent;  // generator rows of what the helpers send
  for (int c = 0; c < n(); ++c) {
    if (!contains(columns, c)) continue;
    helpers.push_back({c, {{vector.begin(), vector.end()}}});
    Bytes row(d_.generator.columns());
    for (int i = 0; i < d_.packets; ++i)
      gf_add_scaled(vector[i], d_.generator.row(c * d_.packets + i), row);
    sent.append(row);
  }
  const auto rebuild = gf_solve(sent, rows_of(ColumnSet{1} << lost));
  if (!rebuild) return failure(too_few(columns));
  return without_idle_outputs(lost, helpers, *rebuild, cost);
}

bool RepairPlan::is_plain(const RepairHelper& helper) {
  const auto& rows = helper.coefficients;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].size() != rows.size()) return false;
    for (size_t j = 0; j < rows[i].size(); ++j)
      if (rows[i][j] != (i == j ? 1 : 0)) return false;
  }
  return !rows.empty();
}

std::vector<ByteRange> ErasureCode::packet_ranges(uint64_t shard_bytes) const {
  const uint64_t packet = shard_bytes / packets();
  std::vector<ByteRange> ranges;
  for (int i = 0; i < packets(); ++i) ranges.push_back({i * packet, packet});
  return ranges;
}

result<void> ErasureCode::rebuild(const RepairPlan& plan, const std::vector<ByteView>& received,
                                  MutableByteView out) const {
  const size_t rows = static_cast<size_t>(packets()), length = out.size() / rows;
  bool fits = plan.rebuild.size() == rows && out.size() % rows == 0 &&
              received.size() <= kKernelPacketsMax && received.size() == outputs_of(plan);
  for (const auto& row : plan.rebuild) fits = fits && row.size() == received.size();
  for (const auto& view : received) fits = fits && view.size() == length;
  if (!fits)
    return failure(Errc::invalid, name() + ": what helpers sent for column " +
                                      std::to_string(plan.lost) + " does not fit the repair plan");
  GfMatrix matrix(0, static_cast<int>(received.size()));
  for (const auto& row : plan.rebuild) matrix.append(row);
  std::vector<const uint8_t*> sources;
  std::vector<uint8_t*> targets;
  for (const auto& view : received) sources.push_back(view.data());
  for (size_t i = 0; i < rows; ++i) targets.push_back(out.data() + i * length);
  PacketKernel(matrix).apply(sources.data(), targets.data(), length);
  return success();
}

}  // namespace datacloud
