// The cloud's daemons and which of them leads, as text and JSON.
#include <fmt/format.h>

#include "tools/reports.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

const char* plan_text(const std::string& plan) {
  if (plan == "A") return "A: the preferred daemon leads, and a standby can take over at once";
  if (plan == "B") return "B: another daemon than the preferred one leads; a standby can take over";
  if (plan == "C")
    return "C: no standby is connected and caught up; if this daemon is lost, the cloud stands "
           "still until\n          one is started, or the metadata is recovered from the sites";
  return "none: the cloud has never had a standby (datacloudd --standby)";
}

std::string state_of(const pb::LeaderReply::Daemon& daemon) {
  if (daemon.leads()) return "leads";
  return daemon.connected() ? "stands by" : "away";
}

}  // namespace

Json leader_json(const pb::LeaderReply& reply) {
  Json daemons = Json::array();
  for (const auto& daemon : reply.daemons()) {
    Json addresses = Json::array();
    for (const auto& address : daemon.addresses()) addresses.push_back(address);
    daemons.push_back(
        {{"name", daemon.name()},
         {"addresses", std::move(addresses)},
         {"order", daemon.order()},
         {"leads", daemon.leads()},
         {"connected", daemon.connected()},
         {"behind", daemon.behind()},
         {"silent_s",
          daemon.silent_ms() < 0 ? Json() : Json(static_cast<double>(daemon.silent_ms()) / 1000)}});
  }
  return {{"plan", reply.plan().empty() ? Json() : Json(reply.plan())},
          {"epoch", reply.epoch()},
          {"since_s", static_cast<double>(reply.since_ns()) / 1e9},
          {"lease_s", static_cast<double>(reply.lease_ms()) / 1000},
          {"lease_holds", reply.lease_holds()},
          {"daemons", std::move(daemons)}};
}

std::string leader_text(const pb::LeaderReply& reply, bool colours) {
  if (reply.daemons_size() == 0) {
    return "the cloud has no journal, and so one daemon alone; `datacloud journal enable` switches "
           "it on\n";
  }
  std::string out =
      fmt::format("leads     since {}, epoch {}\n", local_time(reply.since_ns()), reply.epoch());
  const std::string plan = plan_text(reply.plan());
  out += "plan      " +
         (reply.plan() == "B" || reply.plan() == "C" ? coloured(plan, Colour::warning, colours)
                                                     : plan) +
         "\n";
  if (!reply.lease_holds()) {
    out += "lease     " +
           coloured("too few sites confirm it: mounts get no answers", Colour::bad, colours) + "\n";
  }
  out += "\n";
  Table table({{"DAEMON"}, {"ORDER"}, {"STATE"}, {"BEHIND"}, {"HEARD"}, {"ADDRESSES"}});
  for (const auto& daemon : reply.daemons()) {
    std::string addresses;
    for (const auto& address : daemon.addresses())
      addresses += (addresses.empty() ? "" : " ") + printable(address);
    table.add({printable(daemon.name()), std::to_string(daemon.order()), state_of(daemon),
               daemon.leads() || daemon.silent_ms() < 0 ? "-" : std::to_string(daemon.behind()),
               daemon.leads() ? "-"
               : daemon.silent_ms() < 0
                   ? "never"
                   : fmt::format("{:.1f} s ago", static_cast<double>(daemon.silent_ms()) / 1000),
               addresses});
  }
  return out + table.text(colours);
}

}  // namespace datacloud
