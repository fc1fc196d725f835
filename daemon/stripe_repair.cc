// Snapshot, plan, read, compute, put, switch; again until nothing more can be done.
#include "daemon/stripe_repair.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/log.h"
#include "daemon/block_map.h"
#include "daemon/shard_switch.h"

namespace datacloud {
namespace {

constexpr int kAttemptsMax = 12;  // each ends a need or excludes a column or site

ColumnSet bit(int column) { return ColumnSet{1} << column; }

}  // namespace

result<RepairOutcome> StripeRepair::run() {
  RepairOutcome outcome;
  StripeLock lock(context_.threads, id_);
  if (!lock) {
    outcome.kind = RepairOutcome::Kind::busy;
    return outcome;
  }
  for (int i = 0; i < kAttemptsMax; ++i) {
    TRY(const Snapshot now, snapshot());
    if (!now.exists || !now.needs.any()) {
      outcome.kind = now.exists ? RepairOutcome::Kind::whole : RepairOutcome::Kind::gone;
      return outcome;
    }
    TRY(const bool again, attempt(now, outcome));
    if (!again) break;
  }
  outcome.kind =
      outcome.shards.empty() ? RepairOutcome::Kind::postponed : RepairOutcome::Kind::improved;
  return outcome;
}

result<StripeRepair::Snapshot> StripeRepair::snapshot() {
  return context_.threads.on_loop<Snapshot>([this]() -> result<Snapshot> {
    Snapshot now;
    const Transaction txn = context_.store.begin();
    TRY(auto stripe, get_stripe(txn, id_));
    if (!stripe) return now;
    now.exists = true;
    now.duties = context_.duties();
    TRY(now.needs, stripe_needs(txn, *stripe, now.duties));
    now.stripe = std::move(*stripe);
    return now;
  });
}

bool StripeRepair::takes_shards(SiteId id, const SiteDuties& duties) const {
  Site* site = context_.sites.find(id);
  return site != nullptr && site->up() && duty_of(duties, id) == pb::SITE_ACTIVE &&
         !failed_sites_.contains(id);
}

// Homes first; else the site with the fewest columns of the stripe. A home that is gone for good is
// replaced by where the shard goes.
void StripeRepair::choose_targets(const Snapshot& now, Plan& plan) const {
  std::map<SiteId, int> held;
  for (int c = 0; c < now.stripe.shards_size(); ++c) {
    const auto& shard = now.stripe.shards(c);
    if (shard.state() == pb::SHARD_PRESENT && !contains(plan.rebuild | plan.move, c)) {
      ++held[shard.site()];
    }
  }
  ColumnSet homeless = 0;
  for (int c = 0; c < now.stripe.shards_size(); ++c) {
    if (!contains(plan.rebuild | plan.move, c)) continue;
    const auto& shard = now.stripe.shards(c);
    const SiteId home = shard.home_site() != 0 ? shard.home_site() : shard.site();
    plan.home[c] = home;
    if (takes_shards(home, now.duties)) {
      plan.target[c] = home;
      ++held[home];
    } else {
      homeless |= bit(c);
    }
  }
  for (int c = 0; c < now.stripe.shards_size(); ++c) {
    if (!contains(homeless, c)) continue;
    SiteId best = 0;
    for (Site* site : context_.sites.all()) {
      if (!takes_shards(site->id(), now.duties)) continue;
      if (best == 0 || held[site->id()] < held[best]) best = site->id();
    }
    const bool away_for_good = duty_of(now.duties, plan.home[c]) != pb::SITE_ACTIVE;
    // A stand-in stays where it is while its home is away.
    if (best == 0 || (contains(plan.move, c) && !away_for_good)) {
      plan.obstacle = fmt::format("site {} takes no shards now", context_.site_name(plan.home[c]));
      plan.rebuild &= ~bit(c);
      plan.move &= ~bit(c);
      ++held[now.stripe.shards(c).site()];
      continue;
    }
    plan.target[c] = best;
    if (away_for_good) plan.home[c] = best;
    ++held[best];
  }
}

StripeRepair::Plan StripeRepair::plan(const Snapshot& now, const ErasureCode& code) const {
  Plan plan;
  plan.rebuild = now.needs.bad;
  plan.move = now.needs.moves & ~silent_;
  ColumnSet available = 0;
  std::string away;
  std::vector<uint32_t> cost(static_cast<size_t>(code.n()), 0);
  for (int c = 0; c < code.n(); ++c) {
    const auto& shard = now.stripe.shards(c);
    if (shard.state() == pb::SHARD_EMPTY) {
      available |= bit(c);
      continue;
    }
    if (shard.state() != pb::SHARD_PRESENT || contains(now.needs.bad, c)) continue;
    Site* site = context_.sites.find(shard.site());
    if (site == nullptr || !site->up() || contains(silent_, c)) {
      away += (away.empty() ? "" : ", ") + context_.site_name(shard.site());
      plan.move &= ~bit(c);
      continue;
    }
    available |= bit(c);
    const bool moves = contains(plan.move, c);  // is read anyway
    cost[static_cast<size_t>(c)] =
        moves ? 0 : (shard.site() == context_.local_site ? 1 : 1000) + shard.bytes() / 4096;
  }
  choose_targets(now, plan);
  if (plan.rebuild != 0) {
    const auto sources = code.minimum_to_decode(plan.rebuild, available, cost);
    if (sources) {
      plan.read = sources.value();
    } else {
      plan.obstacle = fmt::format("columns {} cannot be computed from what answers{}{}",
                                  columns_text(plan.rebuild), away.empty() ? "" : "; away: ", away);
      plan.rebuild = 0;
    }
  }
  for (int c = 0; c < code.n(); ++c) {
    if (now.stripe.shards(c).state() == pb::SHARD_EMPTY) plan.read &= ~bit(c);
  }
  plan.read |= plan.move;
  return plan;
}

result<bool> StripeRepair::attempt(const Snapshot& now, RepairOutcome& outcome) {
  TRY(const auto code, make_erasure_code(now.stripe.code()));
  const Plan todo = plan(now, *code);
  outcome.reason = todo.obstacle;
  if ((todo.rebuild | todo.move) == 0) return false;
  const auto began = monotonic_now();
  ShardsRead read = read_shards(context_, now.stripe, todo.read, Purpose::repair);
  for (const auto& [site, bytes] : read.bytes_by_site) outcome.bytes_read[site] += bytes;
  if (!read.failures.empty()) {
    TRY(record_failures(now.stripe, read.failures));
    outcome.reason = read.failures.front().error.message();
    return true;
  }
  std::map<int, Bytes> fresh;
  if (todo.rebuild != 0) {
    TRY(fresh, rebuild_columns(*code, now.stripe, read.columns, todo.rebuild));
  }
  for (int c = 0; c < code->n(); ++c) {
    if (contains(todo.move, c)) fresh[c] = std::move(read.columns[c]);
  }
  TRY(const bool switched, put_and_switch(now, todo, fresh, outcome));
  if (switched) report(now, todo, read, began, outcome);
  return true;
}

result<void> StripeRepair::record_failures(const pb::Stripe& stripe,
                                           const std::vector<ShardFailure>& failures) {
  std::vector<pb::Damage> found;
  for (const auto& failed : failures) {
    const auto& shard = stripe.shards(failed.column);
    spdlog::warn("stripe {} column {} at site {}: {}", stripe.id(), failed.column,
                 context_.site_name(shard.site()), failed.error.message());
    silent_ |= bit(failed.column);
    if (!failed.damaged) continue;
    found.push_back(damage_of(
        {stripe.id(), static_cast<uint8_t>(failed.column), shard.instance()}, shard.site(),
        failed.error.is(Errc::not_found) ? "missing" : failed.error.message()));
  }
  if (found.empty()) return success();
  return context_.threads.on_loop<void>([&]() -> result<void> {
    Transaction txn = context_.store.begin();
    for (const auto& damage : found) {
      TRY(record_damage(txn, damage));
    }
    return context_.commit(std::move(txn));
  });
}

result<bool> StripeRepair::put_and_switch(const Snapshot& now, const Plan& plan,
                                          const std::map<int, Bytes>& fresh,
                                          RepairOutcome& outcome) {
  TRY(const InstanceId first, ids_.take(IdKind::instance, static_cast<uint32_t>(fresh.size())));
  std::vector<NewShard> shards;
  for (const auto& [column, bytes] : fresh) {
    shards.push_back({column, plan.target.at(column), first + shards.size(),
                      std::make_shared<const Bytes>(bytes)});
    outcome.bytes_written[plan.target.at(column)] += bytes.size();
  }
  const ShardsPut put = put_shards(context_, id_, shards, Purpose::repair);
  if (!put.failed.empty()) {
    // All of them: a part would need a plan of its own, and the next attempt makes one.
    failed_sites_.insert(put.failed_sites.begin(), put.failed_sites.end());
    outcome.reason = put.reasons;
    TRY(abandon_shards(context_, id_, shards));
    return false;
  }
  std::vector<ShardSwitch> switches;
  for (const auto& shard : shards) {
    ShardSwitch change{shard.column, now.stripe.shards(shard.column)};
    change.shard.set_state(pb::SHARD_PRESENT);
    change.shard.set_site(shard.site);
    change.shard.set_home_site(plan.home.at(shard.column));
    change.shard.set_instance(shard.instance);
    switches.push_back(std::move(change));
  }
  TRY(const bool switched, context_.threads.on_loop<bool>([&]() -> result<bool> {
    Transaction txn = context_.store.begin();
    TRY(const bool done, switch_shards(txn, now.stripe, switches, context_.duties()));
    if (!done) return false;
    TRY(context_.commit(std::move(txn)));
    context_.collect();
    return true;
  }));
  if (switched) return true;
  TRY(abandon_shards(context_, id_, shards));
  return false;
}

void StripeRepair::report(const Snapshot& now, const Plan& plan, const ShardsRead& read,
                          MonotonicTime began, RepairOutcome& outcome) const {
  uint64_t read_bytes = 0;
  for (const auto& [site, bytes] : read.bytes_by_site) read_bytes += bytes;
  const int count = __builtin_popcount(plan.rebuild | plan.move);
  for (int c = 0; c < now.stripe.shards_size(); ++c) {
    if (!contains(plan.rebuild | plan.move, c)) continue;
    const auto& shard = now.stripe.shards(c);
    ShardRepair line;
    line.stripe = id_;
    line.column = c;
    line.from = shard.site();
    line.to = plan.target.at(c);
    line.method = contains(plan.move, c) ? "move" : "decode";
    line.bytes = shard.bytes();
    line.bytes_read = contains(plan.move, c) ? shard.bytes() : read_bytes / count;
    line.bytes_written = shard.bytes();
    line.took = std::chrono::duration_cast<milliseconds>(monotonic_now() - began);
    outcome.shards.push_back(line);
  }
}

}  // namespace datacloud
