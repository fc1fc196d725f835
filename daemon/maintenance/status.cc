// What `status` says of sites and stripes: counts, and problems in words that say what to do.
#include <fmt/format.h>

#include <algorithm>

#include "common/stripe/placement.h"
#include "daemon/maintenance/maintenance.h"
#include "daemon/records/block_map.h"

namespace datacloud {
namespace {

std::string plural(uint64_t count, const char* one, const char* many) {
  return fmt::format("{} {}", count, count == 1 ? one : many);
}

void check_sites(SiteSet& sites, const pb::Cloud& cloud, const ErasureCode& code,
                 StatusProblems& problems) {
  const int all = static_cast<int>(sites.size());
  const int live = static_cast<int>(sites.live_count());
  for (Site* site : sites.all()) {
    if (site->up()) continue;
    problems.add(Health::degraded,
                 fmt::format("site {} is away: {}; its shards are used again as soon as it is back",
                             site->name(), site->away_reason()));
  }
  const auto tolerance = compute_tolerance(code, all);
  if (all - live > tolerance.sites) {
    problems.add(Health::failing,
                 fmt::format("{} of {} sites are away, and the cloud survives the loss of {}: some "
                             "files cannot be read until one is back",
                             all - live, all, tolerance.sites));
  }
  const int needed =
      cloud.write_sites_min() > 0 ? static_cast<int>(cloud.write_sites_min()) : all / 2 + 1;
  if (live < needed) {
    problems.add(Health::failing,
                 fmt::format("writes need {} sites and {} answer: writes fail until one is back",
                             needed, live));
  }
}

// Below this share of its bytes a site counts as full.
constexpr uint64_t kFullPercent = 3;

void check_space(const pb::StatusReply& status, StatusProblems& problems) {
  for (const auto& site : status.sites()) {
    if (!site.up() || site.bytes_total() == 0) continue;
    if (site.bytes_free() / kFullPercent >= site.bytes_total() / 100) continue;
    problems.add(Health::degraded,
                 fmt::format("site {} is full: {} of {} MiB are free; new shards go to the other "
                             "sites until it has room again",
                             site.name(), site.bytes_free() >> 20, site.bytes_total() >> 20));
  }
}

void check_state_space(StateSpace* space, StatusProblems& problems) {
  if (space == nullptr) return;
  if (const auto full = space->refusal()) problems.add(Health::failing, full->text());
}

void check_redundancy(const pb::StatusReply& status, StatusProblems& problems) {
  if (status.shards_missing() > 0) {
    problems.add(Health::degraded,
                 fmt::format("{} missing: their stripes are readable with less redundancy until "
                             "they are repaired",
                             plural(status.shards_missing(), "shard is", "shards are")));
  }
  if (status.shards_damaged() > 0) {
    const auto& first = status.damaged(0);
    problems.add(
        Health::degraded,
        fmt::format("{} damaged (the first: stripe {} column {}: {}): reads go round them "
                    "until they are repaired",
                    plural(status.shards_damaged(), "shard was found", "shards were found"),
                    first.stripe(), first.column(), first.reason()));
  }
  if (status.stripes_weak() > 0) {
    problems.add(Health::degraded,
                 fmt::format("{} not survive the loss of one more site: written while sites were "
                             "away",
                             plural(status.stripes_weak(), "stripe would", "stripes would")));
  }
}

void check_duties(const pb::Cloud& cloud, const Auditor& auditor, StatusProblems& problems) {
  for (const auto& info : cloud.sites()) {
    if (info.duty() == pb::SITE_LOST) {
      problems.add(Health::degraded,
                   fmt::format("site {} is declared lost; `datacloud site activate {}` uses it "
                               "again",
                               info.name(), info.name()));
    }
    if (!auditor.suspect(info.id())) continue;
    problems.add(Health::degraded,
                 fmt::format("site {} is suspect: audits have found {} bad shards there",
                             info.name(), auditor.findings(info.id())));
  }
}

void check_backlog(const FoldScheduler& folder, StatusProblems& problems) {
  const auto delay = std::chrono::duration_cast<milliseconds>(folder.commit_delay());
  if (delay <= milliseconds::zero()) return;
  problems.add(Health::degraded,
               fmt::format("every commit is held back for {} ms: {} MiB of updates wait to be "
                           "folded; is background work paused or limited (`datacloud background "
                           "show`)?",
                           delay.count(), folder.backlog_bytes() >> 20));
}

}  // namespace

void Maintenance::count(SiteSpace::Age age, Counted done) {
  stripe_statistics_.get([this, age, done = std::move(done)](const auto& counts) {
    space_.get([done, counted = std::make_shared<StripeStatistics::Counts>(counts)](
                   const SiteSpace::Report& space) { done(*counted, space); },
               age);
  });
}

void Maintenance::add_sites(const StripeStatistics::Counts& counts, const SiteSpace::Report& space,
                            pb::StatusReply& status) {
  for (Site* site : deps_.sites.all()) {
    auto* out = status.add_sites();
    out->set_id(site->id());
    out->set_name(site->name());
    out->set_up(site->up());
    out->set_reason(site->away_reason());
    if (const auto c = space.sites.find(site->id()); c != space.sites.end()) {
      out->set_bytes_total(c->second.bytes_total);
      out->set_bytes_free(c->second.bytes_free);
    }
    if (const auto c = space.sites_last.find(site->id()); c != space.sites_last.end()) {
      out->set_raw_bytes_per_byte(c->second.raw_bytes_per_byte);
      if (c->second.class_there) out->set_osd_class(*c->second.class_there ? "yes" : "no");
    }
    if (const auto c = counts.sites.find(site->id()); c != counts.sites.end()) {
      out->set_shards(c->second.shards);
      out->set_shard_bytes(c->second.shard_bytes);
      out->set_missing(c->second.missing);
      out->set_stand_ins(c->second.stand_ins);
    }
    if (const auto l = deps_.site_locations.find(site->name()); l != deps_.site_locations.end()) {
      out->set_location(l->second);
    }
  }
}

void Maintenance::describe(const StripeStatistics::Counts& counts, const SiteSpace::Report& space,
                           pb::StatusReply& status, StatusProblems& problems) {
  *status.mutable_cloud() = deps_.cloud;
  status.set_tolerance(compute_tolerance(*deps_.code, static_cast<int>(deps_.sites.size())).text);
  if (const auto totals = read_totals(store_.begin()); totals) {
    status.set_inodes(totals.value().inodes);
    status.set_logical_bytes(totals.value().blocks_logical_bytes);
    status.set_live_bytes(totals.value().live_bytes);
    status.set_stored_bytes(totals.value().stored_bytes);
    status.set_stripes(totals.value().stripes);
    status.set_stripes_weak(totals.value().stripes_weak);
    status.set_shards_missing(totals.value().shards_missing);
  } else {
    problems.add(Health::failing, totals.error().message());
  }
  status.set_shards_damaged(counts.damaged);
  for (const auto& damage : counts.damaged_first) *status.add_damaged() = damage;
  status.set_pending_deletions(counts.pending_deletions);
  add_sites(counts, space, status);
  check_sites(deps_.sites, deps_.cloud, *deps_.code, problems);
  check_space(status, problems);
  check_state_space(deps_.space.get(), problems);
  check_redundancy(status, problems);
  check_duties(deps_.cloud, auditor_, problems);
  check_backlog(fold_scheduler_, problems);
  if (counts.incomplete) {
    problems.add(Health::failing, "some metadata records cannot be read: see the daemon's log");
  }
}

}  // namespace datacloud
