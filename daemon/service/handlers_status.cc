// `datacloud status`: counts, health, and problems in words that say what to do.
//
// ok: nothing is wrong. degraded: everything can be read and written, with less redundancy or fewer
// sites than there should be. failing: something cannot be written or may not be readable.
#include <fmt/format.h>

#include <algorithm>

#include "common/stripe/placement.h"
#include "daemon/records/block_map.h"
#include "daemon/service/service.h"

namespace datacloud {
namespace {

constexpr size_t kProblemsMax = 100;

enum class Health { ok, degraded, failing };

class Findings {
 public:
  explicit Findings(pb::StatusReply& status) : status_(status) {}

  void add(Health health, std::string text) {
    worst_ = std::max(worst_, health);
    if (status_.problems_size() < static_cast<int>(kProblemsMax)) {
      status_.add_problems(std::move(text));
    }
  }
  const char* health() const {
    return worst_ == Health::ok ? "ok" : worst_ == Health::degraded ? "degraded" : "failing";
  }

 private:
  pb::StatusReply& status_;
  Health worst_ = Health::ok;
};

std::string plural(uint64_t count, const char* one, const char* many) {
  return fmt::format("{} {}", count, count == 1 ? one : many);
}

void check_sites(SiteSet& sites, const pb::Cloud& cloud, const ErasureCode& code,
                 Findings& findings) {
  const int all = static_cast<int>(sites.size());
  const int live = static_cast<int>(sites.live_count());
  for (Site* site : sites.all()) {
    if (site->up()) continue;
    findings.add(Health::degraded,
                 fmt::format("site {} is away: {}; its shards are used again as soon as it is back",
                             site->name(), site->away_reason()));
  }
  const auto tolerance = compute_tolerance(code, all);
  if (all - live > tolerance.sites) {
    findings.add(Health::failing,
                 fmt::format("{} of {} sites are away, and the cloud survives the loss of {}: some "
                             "files cannot be read until one is back",
                             all - live, all, tolerance.sites));
  }
  const int needed =
      cloud.write_sites_min() > 0 ? static_cast<int>(cloud.write_sites_min()) : all / 2 + 1;
  if (live < needed) {
    findings.add(Health::failing,
                 fmt::format("writes need {} sites and {} answer: writes fail until one is back",
                             needed, live));
  }
}

// Below this share of its bytes a site counts as full.
constexpr uint64_t kFullPercent = 3;

void check_space(const pb::StatusReply& status, Findings& findings) {
  for (const auto& site : status.sites()) {
    if (!site.up() || site.bytes_total() == 0) continue;
    if (site.bytes_free() / kFullPercent >= site.bytes_total() / 100) continue;
    findings.add(Health::degraded,
                 fmt::format("site {} is full: {} of {} MiB are free; new shards go to the other "
                             "sites until it has room again",
                             site.name(), site.bytes_free() >> 20, site.bytes_total() >> 20));
  }
}

void check_redundancy(const pb::StatusReply& status, Findings& findings) {
  if (status.shards_missing() > 0) {
    findings.add(Health::degraded,
                 fmt::format("{} missing: their stripes are readable with less redundancy until "
                             "they are repaired",
                             plural(status.shards_missing(), "shard is", "shards are")));
  }
  if (status.shards_damaged() > 0) {
    const auto& first = status.damaged(0);
    findings.add(
        Health::degraded,
        fmt::format("{} damaged (the first: stripe {} column {}: {}): reads go round them "
                    "until they are repaired",
                    plural(status.shards_damaged(), "shard was found", "shards were found"),
                    first.stripe(), first.column(), first.reason()));
  }
  if (status.stripes_weak() > 0) {
    findings.add(Health::degraded,
                 fmt::format("{} not survive the loss of one more site: written while sites were "
                             "away",
                             plural(status.stripes_weak(), "stripe would", "stripes would")));
  }
}

void check_duties(const pb::Cloud& cloud, const Auditor& auditor, Findings& findings) {
  for (const auto& info : cloud.sites()) {
    if (info.duty() == pb::SITE_LOST) {
      findings.add(Health::degraded,
                   fmt::format("site {} is declared lost; `datacloud site activate {}` uses it "
                               "again",
                               info.name(), info.name()));
    }
    if (!auditor.suspect(info.id())) continue;
    findings.add(Health::degraded,
                 fmt::format("site {} is suspect: audits have found {} bad shards there",
                             info.name(), auditor.findings(info.id())));
  }
}

void check_backlog(const FoldScheduler& folder, Findings& findings) {
  const auto delay = std::chrono::duration_cast<milliseconds>(folder.commit_delay());
  if (delay <= milliseconds::zero()) return;
  findings.add(Health::degraded,
               fmt::format("every commit is held back for {} ms: {} MiB of updates wait to be "
                           "folded; is background work paused or limited (`datacloud background "
                           "show`)?",
                           delay.count(), folder.backlog_bytes() >> 20));
}

void check_mount(const SessionState& session, SiteSet& sites, Findings& findings) {
  for (const auto& seen : session.health) {
    Site* site = sites.find(seen.site());
    if (seen.up() || site == nullptr || !site->up()) continue;
    findings.add(Health::degraded, fmt::format("{} does not reach site {}: {}", session.describe(),
                                               site->name(), seen.reason()));
  }
  if (!session.connection) {
    findings.add(
        Health::degraded,
        fmt::format("{} is disconnected; its session ends with its lease", session.describe()));
  }
}

}  // namespace

MetadataService::Answer MetadataService::status(const CallPtr& call) {
  stripe_statistics_.get([this, call](const StripeStatistics::Counts& counts) {
    auto counted = std::make_shared<StripeStatistics::Counts>(counts);
    space_.get([this, call, counted](
                   const SiteSpace::Report& space) { answer(call, status_reply(*counted, space)); },
               SiteSpace::Age::now);
  });
  return later();
}

void MetadataService::snapshot(
    std::function<void(const pb::StatusReply&, const pb::TrafficReply&, const pb::FoldReply&)>
        done) {
  stripe_statistics_.get([this, done = std::move(done)](const StripeStatistics::Counts& counts) {
    auto counted = std::make_shared<StripeStatistics::Counts>(counts);
    space_.get([this, done, counted](const SiteSpace::Report& space) {
      pb::TrafficReply traffic;
      add_traffic(traffic);
      pb::FoldReply folds;
      fold_scheduler_.describe(folds);
      done(status_reply(*counted, space).status(), traffic, folds);
    });
  });
}

void MetadataService::add_sites(const StripeStatistics::Counts& counts,
                                const SiteSpace::Report& space, pb::StatusReply& status) {
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

void MetadataService::add_mounts(pb::StatusReply& status) {
  const auto now = loop_.now();
  for (const auto& [id, session] : sessions_.all()) {
    if (session->tool()) continue;
    auto* out = status.add_mounts();
    *out->mutable_session() = session->record;
    out->set_connected(session->connection != nullptr);
    *out->mutable_stats() = session->stats;
    out->set_leases(static_cast<uint32_t>(leases_.leases_of(id)));
    out->set_idle_ms(std::chrono::duration_cast<milliseconds>(now - session->heard).count());
    for (const auto& health : session->health) *out->add_health() = health;
  }
}

pb::Reply MetadataService::status_reply(const StripeStatistics::Counts& counts,
                                        const SiteSpace::Report& space) {
  pb::Reply reply;
  auto& status = *reply.mutable_status();
  Findings findings(status);
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
    findings.add(Health::failing, totals.error().message());
  }
  status.set_shards_damaged(counts.damaged);
  for (const auto& damage : counts.damaged_first) *status.add_damaged() = damage;
  status.set_pending_deletions(counts.pending_deletions);
  add_sites(counts, space, status);
  add_mounts(status);
  status.set_sequence(store_.sequence());
  status.set_uptime_ms(std::chrono::duration_cast<milliseconds>(loop_.now() - started_).count());
  check_sites(deps_.sites, deps_.cloud, *deps_.code, findings);
  check_space(status, findings);
  check_redundancy(status, findings);
  check_duties(deps_.cloud, auditor_, findings);
  check_backlog(fold_scheduler_, findings);
  for (const auto& [id, session] : sessions_.all()) {
    if (!session->tool()) check_mount(*session, deps_.sites, findings);
  }
  if (counts.incomplete) {
    findings.add(Health::failing, "some metadata records cannot be read: see the daemon's log");
  }
  status.set_health(findings.health());
  status.set_details(status_details(counts));
  return reply;
}

}  // namespace datacloud
