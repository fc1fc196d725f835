// `datacloud site`: sites join, are drained, rebuilt, reused and leave.
//
// rebuild: a site whose storage is there (or has been replaced by an empty one) is filled again in
// place; one whose storage is gone is declared lost, and what it held is rebuilt at the others.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "common/proto/admin.pb.h"
#include "common/site/site_set.h"
#include "tools/admin_call.h"
#include "tools/exit_codes.h"
#include "tools/json_text.h"
#include "tools/repair_wait.h"
#include "tools/reports.h"
#include "tools/site_calls.h"
#include "tools/site_storage.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

result<uint64_t> next_line(DaemonLink& link) {
  pb::Request request;
  request.mutable_repair()->set_lines_after(~uint64_t{0});
  TRY(const auto reply, link.call(std::move(request)));
  return reply.repair().next_line();
}

// Storage that holds no marker and nothing else is taken as the site's replacement.
result<bool> format_replacement(const CommandContext& context, const DaemonLink& link,
                                const std::string& name) {
  TRY(const auto config, load_config(context.config));
  for (const auto& site : config.sites) {
    if (site.name != name) continue;
    if (read_store_marker(site, link.hello.cloud().uuid())) return false;
    if (site.store == "directory" && !std::filesystem::is_directory(site.path)) return false;
    SiteMarker marker;
    marker.cloud_uuid = link.hello.cloud().uuid();
    marker.cloud_name = link.hello.cloud().name();
    marker.site_name = name;
    for (const auto& info : link.hello.cloud().sites()) {
      if (info.name() == name) marker.site_id = info.id();
    }
    if (marker.site_id == 0) return false;
    TRY(format_store(site, marker));
    return true;
  }
  return failure(Errc::not_found,
                 fmt::format("{}: no [[site]] is named \"{}\"", context.config.string(), name));
}

struct Done {
  pb::SiteReply site;
  RepairWait repairs;
  bool formatted = false, declared_lost = false;
};

result<Done> rebuild(const CommandContext& context, const std::string& name) {
  TRY(auto link, connect_to_daemon(context, seconds(60)));
  Done done;
  TRY(const uint64_t line, next_line(link));
  TRY(done.site, act_on_site(link, name, pb::SITE_SHOW));
  auto formatted = format_replacement(context, link, name);
  if (formatted) {
    done.formatted = formatted.value();
    if (done.formatted) {
      TRY(done.site, wait_until_site_up(link, name));
    }
  } else if (!done.site.up()) {
    if (!context.json) {
      fmt::print(stderr, "{}\n", printable(formatted.error().message()));
    }
  }
  if (done.site.up()) {
    TRY(done.site, act_on_site(link, name, pb::SITE_ACTIVATE, true));
  } else {
    done.declared_lost = true;
    TRY(done.site, act_on_site(link, name, pb::SITE_DECLARE_LOST));
  }
  TRY(done.repairs, wait_for_repairs(link, line, context.json));
  return done;
}

result<Done> change(const CommandContext& context, const std::string& name, pb::SiteAction action) {
  TRY(auto link, connect_to_daemon(context, seconds(60)));
  Done done;
  TRY(const uint64_t line, next_line(link));
  TRY(done.site, act_on_site(link, name, action));
  TRY(done.repairs, wait_for_repairs(link, line, context.json));
  return done;
}

int tell(const CommandContext& context, const result<Done>& outcome, const std::string& name) {
  if (!outcome) return report_failure(outcome.error());
  const Done& done = outcome.value();
  uint64_t bytes = 0;
  for (const auto& line : done.repairs.lines) bytes += line.bytes_written();
  const uint64_t left = done.repairs.last.queued();
  if (context.json) {
    Json obstacles = Json::array();
    for (const auto& text : done.repairs.last.obstacles()) obstacles.push_back(text);
    fmt::print("{}", json_text({{"site", name},
                                {"duty", duty_name(done.site.site().duty())},
                                {"up", done.site.up()},
                                {"formatted", done.formatted},
                                {"declared_lost", done.declared_lost},
                                {"shards", done.repairs.lines.size()},
                                {"bytes_written", bytes},
                                {"left", left},
                                {"obstacles", std::move(obstacles)}}));
  } else {
    if (done.formatted) fmt::print("site {} was empty and has been formatted again\n", name);
    if (done.declared_lost) {
      fmt::print(
          "site {} does not answer and is declared lost; `datacloud site activate {}` "
          "uses it again\n",
          name, name);
    }
    fmt::print("site {} is {}: {} shards ({}) were put in their places\n", name,
               duty_name(done.site.site().duty()), done.repairs.lines.size(), human_bytes(bytes));
    if (left > 0) fmt::print("{} stripes are left:\n", left);
    for (const auto& text : done.repairs.last.obstacles()) fmt::print("  {}\n", printable(text));
  }
  return left > 0 ? kExitFailed : kExitOk;
}

result<pb::SiteChangeReply> ask_change(DaemonLink& link, pb::SiteChangeRequest::Change change,
                                       const std::string& name, uint32_t id = 0) {
  pb::AdminRequest request;
  request.mutable_site_change()->set_change(change);
  request.mutable_site_change()->set_name(name);
  request.mutable_site_change()->set_id(id);
  TRY(auto reply, call_admin(link, request));
  return std::move(*reply.mutable_site_change());
}

// A daemon that uses the site has looked at it when this returns, or says why it could not.
result<pb::SiteChangeReply> seen(DaemonLink& link, pb::SiteChangeReply added,
                                 const std::string& name) {
  if (added.restart_needed()) return added;
  TRY(const auto site, wait_until_site_up(link, name));
  if (!site.up()) added.set_obstacle(fmt::format("it is away: {}", site.reason()));
  return added;
}

// Marker first, record second; what a kill leaves in between is taken over (site_storage.h).
result<pb::SiteChangeReply> add_site(const CommandContext& context, DaemonLink& link,
                                     const std::string& name) {
  TRY(const auto config, load_config(context.config));
  const auto site = std::find_if(config.sites.begin(), config.sites.end(),
                                 [&](const auto& s) { return s.name == name; });
  if (site == config.sites.end()) {
    return failure(Errc::not_found, fmt::format("{}: no [[site]] is named \"{}\": add it first",
                                                context.config.string(), name));
  }
  TRY(auto prepared, ask_change(link, pb::SiteChangeRequest::PREPARE, name));
  if (prepared.known()) return seen(link, std::move(prepared), name);
  const auto& cloud = link.hello.cloud();
  SiteMarker marker;
  marker.cloud_uuid = cloud.uuid();
  marker.cloud_name = cloud.name();
  marker.site_name = name;
  marker.site_id = prepared.site().id();
  TRY(prepare_storage(*site, marker, cloud));
  TRY(auto added, ask_change(link, pb::SiteChangeRequest::ADD, name, marker.site_id));
  return seen(link, std::move(added), name);
}

int tell_change(const CommandContext& context, const std::string& name,
                const result<pb::SiteChangeReply>& reply, const char* text) {
  if (!reply) return report_failure(reply.error());
  if (context.json) {
    fmt::print("{}", json_text({{"site", name},
                                {"id", reply.value().site().id()},
                                {"restart_needed", reply.value().restart_needed()},
                                {"obstacle", reply.value().obstacle()}}));
  } else {
    fmt::print("site {} {}{}\n", printable(name), text,
               reply.value().restart_needed()
                   ? "; restart the daemon, then the mounts (until then they work as before)"
                   : "");
    if (!reply.value().obstacle().empty()) {
      fmt::print("it cannot be used now: {}\n", printable(reply.value().obstacle()));
    }
  }
  return kExitOk;
}

}  // namespace

int run_site_add(const CommandContext& context, const std::string& name) {
  auto link = connect_to_daemon(context, seconds(60));
  if (!link) return report_failure(link.error());
  return tell_change(context, name, add_site(context, link.value(), name),
                     "is part of the cloud; mounts whose configuration names it use it within "
                     "seconds");
}

int run_site_remove(const CommandContext& context, const std::string& name) {
  auto link = connect_to_daemon(context, seconds(600));
  if (!link) return report_failure(link.error());
  return tell_change(context, name, ask_change(link.value(), pb::SiteChangeRequest::REMOVE, name),
                     "is no longer part of the cloud; remove its [[site]] from the configuration");
}

// Every step may have been done by an earlier call.
int run_site_replace(const CommandContext& context, const std::string& old_name,
                     const std::string& new_name) {
  auto link = connect_to_daemon(context, seconds(600));
  if (!link) return report_failure(link.error());
  const auto added = add_site(context, link.value(), new_name);
  if (!added) return report_failure(added.error());
  if (added.value().restart_needed()) {
    return report_failure(Error(
        Errc::unavailable, fmt::format("site {} is part of the cloud; restart the daemon and the "
                                       "mounts, then run this again",
                                       new_name)));
  }
  const auto shown = act_on_site(link.value(), old_name, pb::SITE_SHOW);
  if (!shown && shown.error().is(Errc::not_found)) return run_site_remove(context, old_name);
  const auto drained = change(context, old_name, pb::SITE_DRAIN);
  const bool empty = drained && drained.value().repairs.last.queued() == 0;
  if (!empty || !context.json) {
    if (const int told = tell(context, drained, old_name); told != kExitOk) return told;
  }
  pb::Request gc;
  gc.mutable_gc()->set_wait(true);
  if (auto collected = link.value().call(std::move(gc)); !collected) {
    return report_failure(collected.error());
  }
  return run_site_remove(context, old_name);
}

int run_site_rebalance(const CommandContext& context) {
  const auto done = [&]() -> result<std::pair<uint64_t, RepairWait>> {
    TRY(auto link, connect_to_daemon(context, seconds(600)));
    TRY(const uint64_t line, next_line(link));
    TRY(const auto reply, ask_change(link, pb::SiteChangeRequest::REBALANCE, ""));
    TRY(auto repairs, wait_for_repairs(link, line, context.json));
    return std::pair(reply.moves(), std::move(repairs));
  }();
  if (!done) return report_failure(done.error());
  const auto& [moves, repairs] = done.value();
  if (context.json) {
    fmt::print("{}", json_text({{"shards", moves}, {"left", repairs.last.queued()}}));
  } else {
    fmt::print("{} shards were moved, {} stripes are left to move\n", moves, repairs.last.queued());
  }
  return repairs.last.queued() > 0 ? kExitFailed : kExitOk;
}

int run_site_list(const CommandContext& context) {
  auto link = connect_to_daemon(context);
  if (!link) return report_failure(link.error());
  Table table({{"SITE"}, {"DUTY"}, {"STATE"}});
  Json json = Json::array();
  for (const auto& info : link.value().hello.cloud().sites()) {
    const auto site = act_on_site(link.value(), info.name(), pb::SITE_SHOW);
    if (!site) return report_failure(site.error());
    const char* duty = duty_name(site.value().site().duty());
    const std::string state =
        site.value().up() ? "up" : "away: " + printable(site.value().reason());
    table.add({info.name(), duty, state});
    json.push_back({{"id", info.id()},
                    {"name", info.name()},
                    {"duty", duty},
                    {"up", site.value().up()},
                    {"reason", site.value().reason()}});
  }
  fmt::print("{}", context.json ? json_text(json) : table.text(colour_wanted()));
  return kExitOk;
}

int run_site_rebuild(const CommandContext& context, const std::string& name) {
  return tell(context, rebuild(context, name), name);
}

int run_site_drain(const CommandContext& context, const std::string& name) {
  return tell(context, change(context, name, pb::SITE_DRAIN), name);
}

int run_site_activate(const CommandContext& context, const std::string& name) {
  return tell(context, change(context, name, pb::SITE_ACTIVATE), name);
}

}  // namespace datacloud
