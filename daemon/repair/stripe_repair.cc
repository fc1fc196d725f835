// Takes a snapshot, plans, makes one move, and repeats until nothing more can be done.
#include "daemon/repair/stripe_repair.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/log.h"
#include "daemon/records/block_map.h"
#include "daemon/records/stripe_groups.h"

namespace datacloud {
namespace {

constexpr int kFruitlessMax = 12;  // attempts in a row that repaired nothing
constexpr int kAttemptsMax = kGroupRowsMax * 32 + kFruitlessMax;

ColumnSet bit(int column) { return ColumnSet{1} << column; }

std::vector<StripeId> ids_of(const std::vector<pb::Stripe>& stripes) {
  std::vector<StripeId> ids;
  for (const auto& stripe : stripes) ids.push_back(stripe.id());
  std::sort(ids.begin(), ids.end());
  return ids;
}

// The way a row move took, from what it read.
const char* method_of(const RepairMove& move, const ErasureCode& code) {
  if (move.kind == RepairMove::Kind::column) return "vertical";
  if (move.kind == RepairMove::Kind::joint) return "joint";
  if (move.helpers) return "helpers";
  const bool mds = code.guaranteed_tolerance() == code.m();
  return !mds && static_cast<int>(move.reads.size()) < code.k() ? "local" : "decode";
}

}  // namespace

result<RepairOutcome> StripeRepair::run() {
  RepairOutcome outcome;
  TRY(const Snapshot first, snapshot());
  if (!first.exists) {
    outcome.kind = RepairOutcome::Kind::gone;
    return outcome;
  }
  const auto ids = ids_of(first.stripes);
  std::vector<std::unique_ptr<StripeLock>> locks;
  for (const StripeId id : ids) {
    locks.push_back(std::make_unique<StripeLock>(context_.threads, id));
    if (*locks.back()) continue;
    outcome.kind = RepairOutcome::Kind::busy;
    return outcome;
  }
  TRY(attempts(ids, outcome));
  return outcome;
}

result<void> StripeRepair::attempts(const std::vector<StripeId>& locked, RepairOutcome& outcome) {
  int fruitless = 0;
  for (int i = 0; i < kAttemptsMax && fruitless < kFruitlessMax; ++i) {
    TRY(const Snapshot now, snapshot());
    if (!now.exists || !now.needs[now.own].any()) {
      outcome.kind = now.exists ? RepairOutcome::Kind::whole : RepairOutcome::Kind::gone;
      return success();
    }
    if (ids_of(now.stripes) != locked) {  // the group has changed: lock its present members
      outcome.kind = RepairOutcome::Kind::busy;
      return success();
    }
    const size_t before = outcome.shards.size();
    TRY(const bool again, attempt(now, outcome));
    if (!again) break;
    fruitless = outcome.shards.size() > before ? 0 : fruitless + 1;
  }
  outcome.kind =
      outcome.shards.empty() ? RepairOutcome::Kind::postponed : RepairOutcome::Kind::improved;
  return success();
}

result<StripeRepair::Snapshot> StripeRepair::snapshot() {
  return context_.threads.on_loop<Snapshot>([this]() -> result<Snapshot> {
    Snapshot now;
    const Transaction txn = context_.store.begin();
    TRY(auto stripe, get_stripe(txn, id_));
    if (!stripe) return now;
    now.exists = true;
    now.duties = context_.duties();
    now.combining = context_.combining ? context_.combining() : std::set<SiteId>();
    auto group = group_of(txn, *stripe);
    if (!group) {
      spdlog::error("repair: {}", group.error().message());
      group = std::vector<pb::Stripe>{*stripe};
    }
    now.stripes = std::move(group.value());
    for (size_t r = 0; r < now.stripes.size(); ++r) {
      if (now.stripes[r].id() == id_) now.own = r;
      TRY(auto needs, stripe_needs(txn, now.stripes[r], now.duties));
      now.needs.push_back(needs);
    }
    return now;
  });
}

result<bool> StripeRepair::attempt(const Snapshot& now, RepairOutcome& outcome) {
  TRY(const auto code, make_erasure_code(now.stripes[now.own].code()));
  outcome.reason.clear();
  TRY(const Plan todo, plan(now, *code, outcome.reason));
  if (!todo.found) return move_columns(now, outcome);
  const auto began = monotonic_now();
  TRY(Made made, make(now, *code, todo.move, outcome));
  if (!made.complete) return true;
  RepairMove done = todo.move;
  done.rebuilt.clear();
  for (size_t r = 0; r < now.stripes.size(); ++r) {
    std::map<int, Bytes> fresh;
    for (auto& [cell, bytes] : made.shards) {
      if (static_cast<size_t>(cell.row) == r) fresh[cell.column] = std::move(bytes);
    }
    if (fresh.empty()) continue;
    TRY(const bool switched, put_and_switch(now, r, todo.targets[r], fresh, outcome));
    if (!switched) continue;
    for (const auto& [column, bytes] : fresh) done.rebuilt.push_back({static_cast<int>(r), column});
  }
  if (!done.rebuilt.empty()) {
    record(now, done, method_of(done, *code), made, todo.targets, began, outcome);
  }
  return true;
}

// Copies stand-ins and shards of draining sites to their homes, once nothing of the stripe is left
// to rebuild.
result<bool> StripeRepair::move_columns(const Snapshot& now, RepairOutcome& outcome) {
  ColumnSet columns = now.needs[now.own].moves;
  for (int c = 0; c < 32; ++c) {
    if (contains(columns, c) && !readable(now, now.own, c)) columns &= ~bit(c);
  }
  std::vector<Targets> targets(now.stripes.size());
  targets[now.own] = choose_targets(now, now.own, 0, columns);
  if (outcome.reason.empty()) outcome.reason = targets[now.own].obstacle;
  // One after the other, so that only one shard is in memory.
  for (const auto& [column, site] : targets[now.own].site) {
    const auto began = monotonic_now();
    const Cell cell{static_cast<int>(now.own), column};
    RepairMove move{.rebuilt = {cell}};
    move.reads.push_back({cell, now.stripes[now.own].shards(column).bytes()});
    Made made;
    TRY(const bool read, read_cells(now, move.reads, made.shards, made, outcome));
    if (!read) return true;
    const std::map<int, Bytes> fresh{{column, std::move(made.shards.begin()->second)}};
    TRY(const bool switched, put_and_switch(now, now.own, targets[now.own], fresh, outcome));
    if (switched) record(now, move, "move", made, targets, began, outcome);
    return true;  // the record has changed
  }
  return false;
}

void StripeRepair::record(const Snapshot& now, const RepairMove& move, const char* method,
                          const Made& made, const std::vector<Targets>& targets,
                          MonotonicTime began, RepairOutcome& outcome) const {
  const uint64_t count = move.rebuilt.size();
  for (size_t i = 0; i < count; ++i) {
    const Cell& cell = move.rebuilt[i];
    const auto row = static_cast<size_t>(cell.row);
    const auto& shard = now.stripes[row].shards(cell.column);
    ShardRepair line;
    line.stripe = now.stripes[row].id();
    line.column = cell.column;
    line.from = shard.site();
    line.to = targets[row].site.at(cell.column);
    line.method = method;
    line.bytes = shard.bytes();
    line.bytes_written = shard.bytes();
    if (line.to != context_.local_site) line.bytes_between_sites = line.bytes_written;
    for (const auto& [site, bytes] : made.read) {
      const uint64_t part = bytes * (i + 1) / count - bytes * i / count;
      line.read_at[site] = part;
      line.bytes_read += part;
      if (site != context_.local_site) line.bytes_between_sites += part;
    }
    line.took = std::chrono::duration_cast<milliseconds>(monotonic_now() - began);
    outcome.shards.push_back(line);
  }
}

}  // namespace datacloud
