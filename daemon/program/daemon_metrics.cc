// From status, traffic and folds to metrics (daemon_metrics.h).
#include "daemon/program/daemon_metrics.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <set>

#include "common/proto/admin.pb.h"

namespace datacloud {
namespace {

using Type = MetricFamily::Type;

double number(uint64_t value) { return static_cast<double>(value); }

MetricFamily one(std::string name, std::string help, double value, Type type = Type::gauge) {
  return {std::move(name), std::move(help), type, {{{}, value}}};
}

double health_number(const std::string& health) {
  return health == "ok" ? 0 : health == "degraded" ? 1 : 2;
}

std::map<uint32_t, std::string> site_names(const pb::StatusReply& status) {
  std::map<uint32_t, std::string> names;
  for (const auto& site : status.sites()) names[site.id()] = site.name();
  return names;
}

void add_cloud(const pb::StatusReply& status, Metrics& out) {
  out.push_back(
      one("datacloud_health", "0 ok, 1 degraded, 2 failing", health_number(status.health())));
  out.push_back(
      one("datacloud_problems", "Problems that `datacloud status` names", status.problems_size()));
  out.push_back(one("datacloud_inodes", "Files, directories, links and special files",
                    number(status.inodes())));
  out.push_back(
      one("datacloud_logical_bytes", "Bytes of file data", number(status.logical_bytes())));
  out.push_back(one("datacloud_live_bytes", "Bytes of file data, compressed and sealed",
                    number(status.live_bytes())));
  out.push_back(one("datacloud_stored_bytes", "Bytes of all shards at all sites",
                    number(status.stored_bytes())));
  pb::StatusDetails details;
  (void)details.ParseFromString(status.details());
  out.push_back(one("datacloud_reserved_bytes",
                    "Bytes that files have reserved with fallocate, shards not counted",
                    number(details.reserved_bytes())));
  out.push_back(one("datacloud_stripes", "Stripes", number(status.stripes())));
  out.push_back(one("datacloud_weak_stripes",
                    "Stripes that would not survive the loss of one more site",
                    number(status.stripes_weak())));
  out.push_back(one("datacloud_missing_shards", "Shards never written or lost",
                    number(status.shards_missing())));
  out.push_back(
      one("datacloud_damaged_shards", "Shards found damaged", number(status.shards_damaged())));
  out.push_back(one("datacloud_pending_deletions", "Objects still to be deleted",
                    number(status.pending_deletions())));
  out.push_back(one("datacloud_transactions_total",
                    "Metadata transactions since the cloud was made", number(status.sequence()),
                    Type::counter));
}

void add_sites(const pb::StatusReply& status, Metrics& out) {
  using Field = double (*)(const pb::StatusReply::SiteStatus&);
  struct Column {
    const char* name;
    const char* help;
    Field value;
  };
  static constexpr Column kColumns[] = {
      {"datacloud_site_up", "1 while the site answers, 0 while it is away",
       [](const auto& s) { return s.up() ? 1.0 : 0.0; }},
      {"datacloud_site_size_bytes", "Size of the site's store",
       [](const auto& s) { return number(s.bytes_total()); }},
      {"datacloud_site_free_bytes", "Free bytes of the site's store",
       [](const auto& s) { return number(s.bytes_free()); }},
      {"datacloud_site_shards", "Shards at the site",
       [](const auto& s) { return number(s.shards()); }},
      {"datacloud_site_shard_bytes", "Bytes of the shards at the site",
       [](const auto& s) { return number(s.shard_bytes()); }},
      {"datacloud_site_missing_shards", "Shards that belong to the site and are not there",
       [](const auto& s) { return number(s.missing()); }},
      {"datacloud_site_stand_ins", "Shards at the site that belong to another",
       [](const auto& s) { return number(s.stand_ins()); }},
  };
  for (const auto& column : kColumns) {
    MetricFamily family{column.name, column.help, Type::gauge, {}};
    for (const auto& site : status.sites()) {
      family.samples.push_back({{{"site", site.name()}}, column.value(site)});
    }
    out.push_back(std::move(family));
  }
}

// What audits and the continuous scrub have found, by site.
void add_findings(const pb::StatusReply& status, Metrics& out) {
  pb::StatusDetails details;
  if (!details.ParseFromString(status.details())) return;
  const auto names = site_names(status);
  const auto label = [&](uint32_t site) -> MetricFamily::Labels {
    const auto name = names.find(site);
    return {{"site", name != names.end() ? name->second : "site " + std::to_string(site)}};
  };
  const auto by_site = [&](const char* name, const char* help, Type type, const auto& rows,
                           const auto& site_of, const auto& value_of) {
    MetricFamily family{name, help, type, {}};
    for (const auto& row : rows) {
      family.samples.push_back({label(site_of(row)), static_cast<double>(value_of(row))});
    }
    out.push_back(std::move(family));
  };
  const auto audited = [](const auto& row) { return row.site(); };
  by_site("datacloud_site_audited_shards_total", "Shards of the site that audits have challenged",
          Type::counter, details.audits(), audited,
          [](const auto& row) { return row.history().shards_checked(); });
  by_site("datacloud_site_audit_findings_total", "Shards found missing, corrupt or stale by audits",
          Type::counter, details.audits(), audited, [](const auto& row) {
            return row.history().missing() + row.history().corrupt() + row.history().stale();
          });
  const auto walked = [](const auto& row) { return row.walk().site(); };
  by_site("datacloud_site_scrub_walks_total", "Whole walks of the continuous scrub", Type::counter,
          details.scrubs(), walked, [](const auto& row) { return row.walk().walks(); });
  by_site("datacloud_site_scrub_missing_total", "Shards found missing by the continuous scrub",
          Type::counter, details.scrubs(), walked,
          [](const auto& row) { return row.walk().missing(); });
  by_site("datacloud_site_scrub_orphans_total",
          "Objects that nobody named, deleted by the continuous scrub", Type::counter,
          details.scrubs(), walked, [](const auto& row) { return row.walk().orphans(); });
  by_site("datacloud_site_foreign_objects", "Objects that are not ours, in the last whole walk",
          Type::gauge, details.scrubs(), walked,
          [](const auto& row) { return row.walk().unknown_before(); });
}

void add_traffic(const pb::StatusReply& status, const pb::TrafficReply& traffic, Metrics& out) {
  const auto names = site_names(status);
  TrafficFamilies families("datacloud_site");
  for (const auto& row : traffic.rows()) {
    const auto site = names.find(row.site());
    if (site == names.end() || row.purpose() >= static_cast<uint32_t>(kPurposeCount)) continue;
    families.add(site->second, static_cast<Purpose>(row.purpose()),
                 {row.bytes_read(), row.bytes_written(), row.operations()});
  }
  families.move_to(out);
}

void add_folds(const pb::FoldReply& folds, Metrics& out) {
  const auto count = [&](std::string name, std::string help, uint64_t value) {
    out.push_back(one(std::move(name), std::move(help), number(value), Type::counter));
  };
  count("datacloud_fold_stripes_total", "Stripes that took updates in", folds.stripes_folded());
  count("datacloud_fold_blocks_total", "Blocks folded into their stripes", folds.blocks_folded());
  count("datacloud_fold_between_sites_bytes_total", "What folds moved between sites",
        folds.bytes_between_sites());
  count("datacloud_fold_copied_bytes_total",
        "What sites copied by themselves to make new instances of shards for folds",
        folds.bytes_copied_at_sites());
}

void add_mounts(const pb::StatusReply& status, Metrics& out) {
  double connected = 0, dirty = 0;
  std::set<std::string> nodes;
  MetricFamily round_trips{"datacloud_mount_round_trip_seconds",
                           "How long the daemon's answer to the mount's last keepalive took",
                           Type::gauge,
                           {}};
  for (const auto& mount : status.mounts()) {
    const auto& session = mount.session();
    if (!mount.connected()) continue;
    if (!session.node().empty()) nodes.insert(session.node());
    if (mount.stats().round_trip_us() == 0) continue;
    round_trips.samples.push_back({{{"host", session.host()},
                                    {"mountpoint", session.mountpoint()},
                                    {"node", session.node()},
                                    {"session", std::to_string(session.id())}},
                                   number(mount.stats().round_trip_us()) / 1e6});
  }
  out.push_back(std::move(round_trips));
  out.push_back(one("datacloud_nodes_mounted", "Nodes with a mount that is connected",
                    static_cast<double>(nodes.size())));
  for (const auto& mount : status.mounts()) {
    connected += mount.connected() ? 1 : 0;
    dirty += number(mount.stats().dirty_bytes());
  }
  out.push_back({"datacloud_mounts",
                 "Mounts with a session",
                 Type::gauge,
                 {{{{"connected", "true"}}, connected},
                  {{{"connected", "false"}}, status.mounts_size() - connected}}});
  out.push_back(
      one("datacloud_mounts_dirty_bytes", "Written and not yet durable, all mounts", dirty));
}

void add_formats(const pb::StatusReply& status, Metrics& out) {
  pb::StatusDetails details;
  if (!details.ParseFromString(status.details())) return;
  MetricFamily features{
      "datacloud_feature", "Always 1; a feature that the cloud uses", Type::gauge, {}};
  for (const auto& name : details.features()) features.samples.push_back({{{"feature", name}}, 1});
  out.push_back(std::move(features));
  out.push_back(one("datacloud_trees", "Trees, besides the cloud's root", number(details.trees())));
  out.push_back(one("datacloud_inline_blocks", "Blocks whose bytes are kept in the metadata",
                    number(details.inline_blocks())));
  out.push_back(one("datacloud_patches", "Patches of blocks that are kept in the metadata",
                    number(details.patches())));
}

void add_refusals(const pb::StatusReply& status, Metrics& out) {
  pb::StatusDetails details;
  if (!details.ParseFromString(status.details())) return;
  MetricFamily family{"datacloud_peers_refused_total",
                      "Connections over TLS that were turned away, by reason",
                      Type::counter,
                      {}};
  for (const auto& refusal : details.refusals())
    family.samples.push_back({{{"reason", refusal.reason()}}, number(refusal.count())});
  out.push_back(std::move(family));
}

// Of clouds with a journal only.
void add_journal(const pb::StatusReply& status, Metrics& out) {
  pb::StatusDetails details;
  if (!details.ParseFromString(status.details()) || !details.journal().used()) return;
  const auto& journal = details.journal();
  const auto add = [&](const char* name, const char* help, double value) {
    out.push_back(one(name, help, value));
  };
  add("datacloud_journal_epoch", "Number of the leadership", number(journal.epoch()));
  add("datacloud_journal_entries", "Sequence of the newest entry", number(journal.last()));
  add("datacloud_journal_uncommitted_entries", "Entries that no quorum has yet",
      number(journal.last() - std::min(journal.committed(), journal.last())));
  add("datacloud_journal_uncommitted_bytes", "Bytes of these entries",
      number(journal.uncommitted_bytes()));
  add("datacloud_journal_uncommitted_bytes_max", "Above, requests that change something wait",
      number(journal.uncommitted_bytes_max()));
  add("datacloud_journal_requests_waiting", "Requests that wait for that",
      number(journal.waiting()));
  add("datacloud_journal_rollbacks_refused",
      "Hellos of mounts that know of entries which are not here, since the start",
      number(journal.rollbacks_refused()));
  add("datacloud_journal_margin",
      "Sites that may go away before nothing becomes durable; negative: nothing does",
      journal.margin());
  add("datacloud_journal_bytes", "Bytes of the entries that sites keep, about",
      number(journal.bytes()));
  add("datacloud_journal_bytes_max", "A checkpoint is made at half of it",
      number(journal.bytes_max()));
  add("datacloud_journal_checkpoint_time_seconds",
      "When the newest checkpoint was made; 0: there is none",
      static_cast<double>(journal.checkpoint_ns()) / 1e9);
  const auto& audit = journal.audit();
  add("datacloud_journal_audit_finished_time_seconds",
      "When entries and checkpoints were last read back from all sites; 0: never",
      static_cast<double>(audit.finished_ns()) / 1e9);
  add("datacloud_journal_audit_unrepaired", "What is wrong at sites and could not be repaired",
      number(audit.unrepaired()));
  const auto count = [&](const char* name, const char* help, uint64_t value) {
    out.push_back({name, help, Type::counter, {{{}, number(value)}}});
  };
  count("datacloud_journal_audit_findings_total",
        "Logs of sites and columns of checkpoints that were found wrong", audit.findings());
  count("datacloud_journal_audit_repaired_total", "Of these, repaired", audit.repaired());
  MetricFamily at_work{"datacloud_journal_site_ok",
                       "1 while the site takes entries; 0 while it is behind or away",
                       Type::gauge,
                       {}};
  MetricFamily behind{"datacloud_journal_site_behind_entries",
                      "Entries that the site has not acknowledged",
                      Type::gauge,
                      {}};
  for (const auto& site : journal.sites()) {
    const MetricFamily::Labels label{{"site", site.name()}};
    at_work.samples.push_back({label, site.state() == "ok" ? 1.0 : 0.0});
    behind.samples.push_back(
        {label, number(journal.last() - std::min(site.acknowledged(), journal.last()))});
  }
  out.push_back(std::move(at_work));
  out.push_back(std::move(behind));
}

// Of clouds that have had a standby; standbys show their own (startup_standby.cc).
void add_leader(const pb::StatusReply& status, Metrics& out) {
  pb::StatusDetails details;
  if (!details.ParseFromString(status.details()) || !details.has_leader()) return;
  const auto& leader = details.leader();
  out.push_back(one("datacloud_leader", "Whether this daemon leads the cloud", 1));
  out.push_back(one("datacloud_leader_since_time_seconds", "When it began to lead",
                    static_cast<double>(leader.since_ns()) / 1e9));
  out.push_back(one("datacloud_leader_lease_holds",
                    "0: too few sites confirm that it leads, and mounts get no answers",
                    leader.lease_holds() ? 1 : 0));
  MetricFamily plan{"datacloud_leader_plan",
                    "1 for the plan in force: A, B (not the preferred daemon leads) or C (no "
                    "standby is caught up)",
                    Type::gauge,
                    {}};
  for (const char* name : {"A", "B", "C"})
    plan.samples.push_back({{{"plan", name}}, leader.plan() == name ? 1.0 : 0.0});
  out.push_back(std::move(plan));
  MetricFamily connected{
      "datacloud_leader_standby_connected", "1 while the standby tells of itself", Type::gauge, {}};
  MetricFamily behind{"datacloud_leader_standby_behind_entries",
                      "Committed entries that the standby had not applied when it last told",
                      Type::gauge,
                      {}};
  for (const auto& daemon : leader.daemons()) {
    if (daemon.leads()) continue;
    const MetricFamily::Labels label{{"daemon", daemon.name()}};
    connected.samples.push_back({label, daemon.connected() ? 1.0 : 0.0});
    behind.samples.push_back({label, number(daemon.behind())});
  }
  out.push_back(std::move(connected));
  out.push_back(std::move(behind));
}

}  // namespace

void add_rpc_metrics(const RpcServerStats& stats, Metrics& out) {
  const auto seconds_of = [](Duration d) { return std::chrono::duration<double>(d).count(); };
  const auto add = [&](const char* name, const char* help, double value, Type type = Type::gauge) {
    out.push_back(one(name, help, value, type));
  };
  add("datacloud_rpc_threads", "Threads that move the bytes of connections", number(stats.threads));
  add("datacloud_rpc_connections", "Connections of mounts and commands", number(stats.connections));
  add("datacloud_rpc_connections_paused",
      "Connections that are not read from, as too many of their requests wait",
      number(stats.connections_paused));
  add("datacloud_rpc_handshakes", "TLS handshakes under way", number(stats.handshakes));
  add("datacloud_rpc_handshakes_evicted_total",
      "Handshakes that did not go on and gave their place to others",
      number(stats.handshakes_evicted), Type::counter);
  add("datacloud_rpc_requests_waiting", "Requests that wait for their turn",
      number(stats.requests_waiting));
  add("datacloud_rpc_waiting_bytes", "Bytes of the requests that wait",
      number(stats.bytes_waiting));
  add("datacloud_rpc_requests_total", "Requests served", number(stats.requests_served),
      Type::counter);
  add("datacloud_rpc_waited_seconds_total", "What all served requests have waited for their turn",
      seconds_of(stats.waited), Type::counter);
  add("datacloud_rpc_served_seconds_total", "What the service has worked on requests",
      seconds_of(stats.served), Type::counter);
}

Metrics daemon_metrics(const pb::StatusReply& status, const pb::TrafficReply& traffic,
                       const pb::FoldReply& folds, double now_s) {
  Metrics out;
  out.push_back({"datacloud_daemon_info",
                 "Always 1; which cloud, and the daemon's version",
                 Type::gauge,
                 {{{{"cloud", status.cloud().name()},
                    {"uuid", status.cloud().uuid()},
                    {"version", DATACLOUD_VERSION}},
                   1}}});
  out.push_back(one("datacloud_daemon_start_time_seconds", "When the daemon was started",
                    now_s - number(status.uptime_ms()) / 1000));
  add_cloud(status, out);
  add_sites(status, out);
  add_findings(status, out);
  add_traffic(status, traffic, out);
  add_folds(folds, out);
  add_mounts(status, out);
  add_formats(status, out);
  add_refusals(status, out);
  add_journal(status, out);
  add_leader(status, out);
  return out;
}

}  // namespace datacloud
