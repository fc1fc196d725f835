// Where rebuilt shards go, and the planner's view of a group: what is lost, what answers, what a
// byte costs.
#include <fmt/format.h>

#include "daemon/repair/stripe_repair.h"

namespace datacloud {
namespace {

ColumnSet bit(int column) { return ColumnSet{1} << column; }

}  // namespace

bool StripeRepair::takes_shards(SiteId id, const SiteDuties& duties) const {
  Site* site = context_.sites.find(id);
  return site != nullptr && site->up() && duty_of(duties, id) == pb::SITE_ACTIVE &&
         !failed_sites_.contains(id);
}

bool StripeRepair::readable(const Snapshot& now, size_t row, int column) const {
  const auto& shard = now.stripes[row].shards(column);
  if (shard.state() != pb::SHARD_PRESENT || contains(now.needs[row].bad, column)) return false;
  Site* site = context_.sites.find(shard.site());
  return site != nullptr && site->up() && !silent_.contains({now.stripes[row].id(), column});
}

// Homes first; else the site with the fewest columns of the stripe, which for all members of a
// group is the same one, so that columns stay together. A home that is gone for good is replaced by
// where the shard goes.
StripeRepair::Targets StripeRepair::choose_targets(const Snapshot& now, size_t row,
                                                   ColumnSet rebuild, ColumnSet move) const {
  const pb::Stripe& stripe = now.stripes[row];
  Targets targets;
  std::map<SiteId, int> held;
  for (int c = 0; c < stripe.shards_size(); ++c) {
    const auto& shard = stripe.shards(c);
    if (shard.state() == pb::SHARD_PRESENT && !contains(rebuild | move, c)) ++held[shard.site()];
  }
  ColumnSet homeless = 0;
  for (int c = 0; c < stripe.shards_size(); ++c) {
    if (!contains(rebuild | move, c)) continue;
    const auto& shard = stripe.shards(c);
    const SiteId home = shard.home_site() != 0 ? shard.home_site() : shard.site();
    targets.home[c] = home;
    if (takes_shards(home, now.duties)) {
      targets.site[c] = home;
      ++held[home];
    } else {
      homeless |= bit(c);
    }
  }
  for (int c = 0; c < stripe.shards_size(); ++c) {
    if (!contains(homeless, c)) continue;
    SiteId best = 0;
    for (Site* site : context_.sites.all()) {
      if (!takes_shards(site->id(), now.duties)) continue;
      if (best == 0 || held[site->id()] < held[best]) best = site->id();
    }
    const bool away_for_good = duty_of(now.duties, targets.home[c]) != pb::SITE_ACTIVE ||
                               context_.sites.find(targets.home[c]) == nullptr;  // it has left
    // A stand-in stays where it is while its home is away.
    if (best == 0 || (contains(move, c) && !away_for_good)) {
      targets.obstacle =
          fmt::format("site {} takes no shards now", context_.site_name(targets.home[c]));
      ++held[stripe.shards(c).site()];
      continue;
    }
    targets.site[c] = best;
    if (away_for_good) targets.home[c] = best;
    ++held[best];
  }
  return targets;
}

result<StripeRepair::Plan> StripeRepair::plan(const Snapshot& now, const ErasureCode& code,
                                              std::string& obstacle) const {
  Plan plan;
  RepairProblem problem{.code = code,
                        .rows = {},
                        .has_xor_row = now.stripes.size() > 1,
                        .local_site = context_.local_site,
                        .working_sites = {}};
  std::set<SiteId> away;
  for (size_t r = 0; r < now.stripes.size(); ++r) {
    const pb::Stripe& stripe = now.stripes[r];
    plan.targets.push_back(choose_targets(now, r, now.needs[r].bad, 0));
    RepairRow row{.parity_bytes = stripe.parity_bytes()};
    for (int c = 0; c < code.n(); ++c) {
      const auto& shard = stripe.shards(c);
      const auto target = plan.targets[r].site.find(c);
      const bool lost = target != plan.targets[r].site.end();
      row.shard_bytes.push_back(shard.state() == pb::SHARD_EMPTY ? 0 : shard.bytes());
      row.sites.push_back(lost ? target->second : shard.site());
      if (lost) {
        row.lost |= bit(c);
      } else if (shard.state() != pb::SHARD_EMPTY && !readable(now, r, c)) {
        row.unreachable |= bit(c);
        away.insert(shard.site());
      } else if (shard.state() != pb::SHARD_EMPTY && !now.combining.contains(shard.site())) {
        problem.combine_at_sites = false;
      }
    }
    // Sites combine only what tags can prove; otherwise whole shards are read and combined here.
    const uint64_t packet = stripe.parity_bytes() / static_cast<uint64_t>(code.packets());
    if (packet % kAuditBlockBytes != 0) problem.combine_at_sites = false;
    problem.rows.push_back(std::move(row));
  }
  if (now.needs[now.own].bad == 0) return plan;
  obstacle = plan.targets[now.own].obstacle;
  TRY(auto schedule, plan_repair(problem, context_.repair_strategy ? context_.repair_strategy()
                                                                   : RepairStrategy::cheapest));
  for (const Cell& cell : schedule.unrecoverable) {
    if (static_cast<size_t>(cell.row) != now.own) continue;
    std::string names;
    for (const SiteId site : away) {
      names += (names.empty() ? "" : ", ") + context_.site_name(site);
    }
    obstacle =
        fmt::format("columns {} cannot be computed from what answers{}{}",
                    columns_text(now.needs[now.own].bad), names.empty() ? "" : "; away: ", names);
  }
  if (schedule.moves.empty()) return plan;
  plan.found = true;
  plan.move = std::move(schedule.moves.front());
  return plan;
}

}  // namespace datacloud
