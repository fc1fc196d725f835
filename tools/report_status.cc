// `status` as JSON (docs/status-json.md) and as text.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "common/proto/admin.pb.h"
#include "tools/reports.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

// Four digits after the point; null when there is nothing to divide by.
Json ratio(uint64_t part, uint64_t whole) {
  if (whole == 0) return nullptr;
  return std::round(static_cast<double>(part) / static_cast<double>(whole) * 1e4) / 1e4;
}

Json site_json(const pb::StatusReply::SiteStatus& site) {
  return {{"id", site.id()},
          {"name", site.name()},
          {"up", site.up()},
          {"reason", site.reason()},
          {"location", site.location()},
          {"bytes_total", site.bytes_total()},
          {"bytes_free", site.bytes_free()},
          {"shards", site.shards()},
          {"shard_bytes", site.shard_bytes()},
          {"shards_missing", site.missing()},
          {"stand_ins", site.stand_ins()},
          {"raw_bytes_per_byte",
           site.raw_bytes_per_byte() > 0 ? Json(site.raw_bytes_per_byte()) : Json()},
          {"osd_class", site.osd_class().empty() ? Json() : Json(site.osd_class())}};
}

// Bytes on the sites' media: what we store times each site's own redundancy, where it is known.
uint64_t raw_bytes(const pb::StatusReply& status) {
  double raw = 0;
  for (const auto& site : status.sites()) {
    const double factor = site.raw_bytes_per_byte() > 0 ? site.raw_bytes_per_byte() : 1;
    raw += static_cast<double>(site.shard_bytes()) * factor;
  }
  return static_cast<uint64_t>(raw);
}

bool sites_replicate(const pb::StatusReply& status) {
  return std::any_of(status.sites().begin(), status.sites().end(),
                     [](const auto& site) { return site.raw_bytes_per_byte() > 1; });
}

Json mount_json(const pb::StatusReply& status, const pb::StatusDetails& details,
                const pb::StatusReply::MountStatus& mount) {
  Json away = Json::array();
  for (const auto& health : mount.health()) {
    if (health.up()) continue;
    away.push_back(
        {{"site", site_name(status.cloud(), health.site())}, {"reason", health.reason()}});
  }
  const auto& stats = mount.stats();
  pb::StatusDetails::MountTraffic traffic;
  for (const auto& row : details.mount_traffic()) {
    if (row.session() == mount.session().id()) traffic = row;
  }
  return {{"session", mount.session().id()},
          {"host", mount.session().host()},
          {"pid", mount.session().pid()},
          {"node", mount.session().node()},
          {"address", mount.session().address()},
          {"roles", std::vector<std::string>(mount.session().roles().begin(),
                                             mount.session().roles().end())},
          {"mountpoint", mount.session().mountpoint()},
          {"version", mount.session().version()},
          {"protocol", mount.session().protocol()},
          {"round_trip_us", stats.round_trip_us() == 0 ? Json() : Json(stats.round_trip_us())},
          {"connected", mount.connected()},
          {"idle_s", static_cast<double>(mount.idle_ms()) / 1000},
          {"leases", mount.leases()},
          {"dirty_bytes", stats.dirty_bytes()},
          {"cache_bytes", stats.cache_bytes()},
          {"operations", stats.operations()},
          {"bytes_read", traffic.bytes_read()},
          {"bytes_written", traffic.bytes_written()},
          {"degraded_reads", stats.degraded_reads()},
          {"flush_failures", stats.flush_failures()},
          {"last_failure", stats.last_failure()},
          {"data_losses", stats.data_losses()},
          {"sites_away", std::move(away)}};
}

Json audits_json(const pb::StatusReply& status, const pb::StatusDetails& details) {
  Json list = Json::array();
  for (const auto& audit : details.audits()) {
    const auto& history = audit.history();
    list.push_back({{"site", site_name(status.cloud(), audit.site())},
                    {"duty", duty_name(audit.duty())},
                    {"suspect", audit.suspect()},
                    {"shards_checked", history.shards_checked()},
                    {"missing", history.missing()},
                    {"corrupt", history.corrupt()},
                    {"stale", history.stale()},
                    {"silent", history.silent()},
                    {"cycles", history.cycles()}});
  }
  return list;
}

// What XOR rows cost; nothing where there are none.
std::string group_line(const pb::StatusReply& status) {
  const auto details = details_of(status);
  if (details.rows() == 0) return "";
  const auto plain = static_cast<double>(status.stored_bytes() -
                                         std::min(status.stored_bytes(), details.row_bytes()));
  return fmt::format(
      "groups    {} XOR rows over {} stripes take {} ({:.0f} % more){}: a lost shard comes "
      "back from its own site\n",
      details.rows(), details.members(), human_bytes(details.row_bytes()),
      plain > 0 ? 100 * static_cast<double>(details.row_bytes()) / plain : 0.0,
      details.dead_members() == 0
          ? ""
          : fmt::format(", {} for {} overwritten ones", human_bytes(details.dead_bytes()),
                        details.dead_members()));
}

Json damaged_json(const pb::StatusReply& status) {
  Json list = Json::array();
  for (const auto& damage : status.damaged()) {
    list.push_back({{"stripe", damage.stripe()},
                    {"column", damage.column()},
                    {"site", site_name(status.cloud(), damage.site())},
                    {"instance", damage.instance()},
                    {"reason", damage.reason()}});
  }
  return list;
}

Colour health_colour(const std::string& health) {
  if (health == "ok") return Colour::good;
  return health == "degraded" ? Colour::warning : Colour::bad;
}

std::string data_lines(const pb::StatusReply& status) {
  std::string out = fmt::format("data      {} in {} files, directories and links\n",
                                human_bytes(status.logical_bytes()), status.inodes());
  if (status.logical_bytes() == 0) {
    return out + fmt::format("stored    {}\n", human_bytes(status.stored_bytes()));
  }
  const auto logical = static_cast<double>(status.logical_bytes());
  const double sealed = static_cast<double>(status.live_bytes()) / logical;
  out += fmt::format("stored    {} at the sites: {:.2f} bytes per byte of data\n",
                     human_bytes(status.stored_bytes()),
                     static_cast<double>(status.stored_bytes()) / logical);
  out += fmt::format("sealed    {} after compression: {}\n", human_bytes(status.live_bytes()),
                     sealed < 1 ? fmt::format("{:.0f} % saved", 100 * (1 - sealed))
                                : fmt::format("{:.2f} bytes per byte of data", sealed));
  if (!sites_replicate(status)) return out;
  const auto raw = static_cast<double>(raw_bytes(status));
  return out + fmt::format(
                   "on media  {}: {:.2f} bytes per byte of data, with the pools' own redundancy\n",
                   human_bytes(raw_bytes(status)), raw / logical);
}

std::string reserved_line(const pb::StatusDetails& details) {
  if (details.reserved_bytes() == 0) return {};
  return fmt::format("reserved  {} for files, by fallocate\n",
                     human_bytes(details.reserved_bytes()));
}

std::string stripe_line(const pb::StatusReply& status, bool colours) {
  auto count = [&](uint64_t n, const char* what, Colour colour) {
    return coloured(fmt::format("{} {}", n, what), n > 0 ? colour : Colour::none, colours);
  };
  return fmt::format("stripes   {}, {}; shards {}, {}; {} deletions pending\n", status.stripes(),
                     count(status.stripes_weak(), "weak", Colour::warning),
                     count(status.shards_missing(), "missing", Colour::warning),
                     count(status.shards_damaged(), "damaged", Colour::bad),
                     status.pending_deletions());
}

std::string site_table(const pb::StatusReply& status, bool colours) {
  using Align = Table::Align;
  Table table({{"SITE"},
               {"STATE"},
               {"SHARDS", Align::right},
               {"STORED", Align::right},
               {"MISSING", Align::right},
               {"STAND-INS", Align::right},
               {"FREE", Align::right},
               {"RAW", Align::right},
               {"CLASS"},
               {"LOCATION"}});
  for (const auto& site : status.sites()) {
    table.add(
        {printable(site.name()),
         site.up() ? Table::Cell("up", Colour::good) : Table::Cell("away", Colour::bad),
         site.shards(), human_bytes(site.shard_bytes()), site.missing(), site.stand_ins(),
         site.up() ? human_bytes(site.bytes_free()) : "-",
         site.raw_bytes_per_byte() > 0 ? fmt::format("x{:.4g}", site.raw_bytes_per_byte()) : "-",
         site.osd_class().empty() ? "-" : site.osd_class(), printable(site.location())});
  }
  return table.text(colours);
}

// "4711", or "gpu07 (mount) 10.0.0.7:53412".
std::string client_of(const pb::Session& session) {
  if (session.node().empty()) return std::to_string(session.pid());
  return printable(fmt::format("{} ({}) {}", session.node(), fmt::join(session.roles(), ","),
                               session.address()));
}

std::string mount_table(const pb::StatusReply& status, bool colours) {
  if (status.mounts().empty()) return "no mounts\n";
  using Align = Table::Align;
  Table table({{"MOUNT"},
               {"HOST"},
               {"PROCESS OR NODE"},
               {"ROUND TRIP", Align::right},
               {"VERSION"},
               {"STATE"},
               {"LEASES", Align::right},
               {"DIRTY", Align::right},
               {"CACHE", Align::right},
               {"DEGRADED READS", Align::right},
               {"FLUSH FAILURES", Align::right}});
  for (const auto& mount : status.mounts()) {
    const auto& stats = mount.stats();
    table.add({printable(mount.session().mountpoint()), printable(mount.session().host()),
               client_of(mount.session()),
               round_trip_text(mount.connected() ? stats.round_trip_us() : 0),
               printable(mount.session().version()),
               mount.connected() ? Table::Cell("connected", Colour::good)
                                 : Table::Cell("silent", Colour::warning),
               uint64_t{mount.leases()}, human_bytes(stats.dirty_bytes()),
               human_bytes(stats.cache_bytes()), stats.degraded_reads(),
               Table::Cell(std::to_string(stats.flush_failures()),
                           stats.flush_failures() > 0 ? Colour::bad : Colour::none)});
  }
  std::string out = table.text(colours);
  for (const auto& mount : status.mounts()) {
    if (mount.stats().data_losses() == 0) continue;
    out += fmt::format(
        "  {}: unwritten data of {} file(s) lost: others had changed or removed them while the "
        "mount "
        "had no session; its log names them\n",
        printable(mount.session().mountpoint()), mount.stats().data_losses());
  }
  for (const auto& mount : status.mounts()) {
    if (mount.stats().last_failure().empty()) continue;
    out += fmt::format("  {}: last failure: {}\n", printable(mount.session().mountpoint()),
                       printable(mount.stats().last_failure()));
  }
  return out;
}

}  // namespace

const char* duty_name(pb::SiteDuty duty) {
  switch (duty) {
    case pb::SITE_DRAINING:
      return "draining";
    case pb::SITE_LOST:
      return "lost";
    case pb::SITE_REMOVED:
      return "removed";
    default:
      return "active";
  }
}

std::string site_name(const pb::Cloud& cloud, uint32_t id) {
  for (const auto& site : cloud.sites()) {
    if (site.id() == id) return site.name();
  }
  return "site " + std::to_string(id);
}

Json status_json(const pb::StatusReply& status) {
  const auto details = details_of(status);
  Json sites = Json::array(), mounts = Json::array(), problems = Json::array();
  for (const auto& problem : status.problems()) problems.push_back(problem);
  for (const auto& site : status.sites()) sites.push_back(site_json(site));
  for (const auto& mount : status.mounts()) mounts.push_back(mount_json(status, details, mount));
  return {{"health", status.health()},
          {"problems", std::move(problems)},
          {"cloud",
           {{"name", status.cloud().name()},
            {"uuid", status.cloud().uuid()},
            {"code", status.cloud().root_policy().code()}}},
          {"tolerance", status.tolerance()},
          {"sites", std::move(sites)},
          {"capacity",
           {{"logical_bytes", status.logical_bytes()},
            {"live_bytes", status.live_bytes()},
            {"stored_bytes", status.stored_bytes()},
            {"reserved_bytes", details.reserved_bytes()},
            {"overhead", ratio(status.stored_bytes(), status.logical_bytes())},
            {"raw_bytes", raw_bytes(status)},
            {"raw_overhead", ratio(raw_bytes(status), status.logical_bytes())},
            {"compression", ratio(status.live_bytes(), status.logical_bytes())}}},
          {"inodes", status.inodes()},
          {"stripes", {{"total", status.stripes()}, {"weak", status.stripes_weak()}}},
          {"shards", {{"missing", status.shards_missing()}, {"damaged", status.shards_damaged()}}},
          {"damaged", damaged_json(status)},
          {"stripes_by_remaining", details.stripes_by_remaining()},
          {"repair",
           {{"queued", details.repair_queued()},
            {"put_off", details.repair_put_off()},
            {"shards_repaired", details.shards_repaired()}}},
          {"audit",
           {{"cycle_done", details.audit_cycle_done()}, {"sites", audits_json(status, details)}}},
          {"scrub",
           {{"cycle_s", static_cast<double>(details.scrub_cycle_ms()) / 1000},
            {"sites", scrubs_json(status, details)}}},
          {"groups",
           {{"rows", details.rows()},
            {"row_bytes", details.row_bytes()},
            {"members", details.members()},
            {"dead_members", details.dead_members()},
            {"dead_bytes", details.dead_bytes()}}},
          {"features", details.features()},
          {"journal", journal_json(details.journal())},
          {"leader", details.has_leader() ? leader_json(details.leader()) : Json()},
          {"trees", details.trees()},
          {"inline_blocks", details.inline_blocks()},
          {"patches", details.patches()},
          {"stripes_merged", details.stripes_merged()},
          {"background_paused", details.background_paused()},
          {"background", background_json(details)},
          {"queues", queues_json(details)},
          {"operations", operations_json(details)},
          {"mounts", std::move(mounts)},
          {"pending_deletions", status.pending_deletions()},
          {"sequence", status.sequence()},
          {"uptime_s", static_cast<double>(status.uptime_ms()) / 1000}};
}

std::string status_text(const pb::StatusReply& status, bool colours) {
  std::string out = fmt::format("cloud     {} ({}), code {}\n", printable(status.cloud().name()),
                                status.cloud().uuid(), status.cloud().root_policy().code());
  out += fmt::format("health    {}\n",
                     coloured(status.health(), health_colour(status.health()), colours));
  for (const auto& problem : status.problems()) {
    out += "          " + printable(problem) + "\n";
  }
  out += fmt::format("survives  {}\n", status.tolerance());
  out += data_lines(status) + reserved_line(details_of(status)) + stripe_line(status, colours) +
         group_line(status) + background_text(details_of(status));
  out += fmt::format("daemon    up {}, sequence {}\n\n", human_duration(status.uptime_ms()),
                     status.sequence());
  return out + site_table(status, colours) + "\n" + mount_table(status, colours);
}

}  // namespace datacloud
