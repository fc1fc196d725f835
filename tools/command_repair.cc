// `datacloud repair`: looks for missing shards at the sites and has everything bad repaired.
#include <fmt/format.h>

#include <map>

#include "tools/admin_call.h"
#include "tools/exit_codes.h"
#include "tools/json_text.h"
#include "tools/repair_wait.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

std::string site_name(const pb::RepairReply& reply, uint32_t id) {
  for (const auto& site : reply.sites()) {
    if (site.id() == id) return site.name();
  }
  return fmt::format("site {}", id);
}

// {"site","bytes_read","bytes_written"} of each site that took part.
Json sites_json(const RepairWait& wait, size_t line) {
  Json sites = Json::array();
  if (line >= wait.details.size()) return sites;
  for (const auto& moved : wait.details[line].sites()) {
    sites.push_back({{"site", site_name(wait.last, moved.site())},
                     {"bytes_read", moved.bytes_read()},
                     {"bytes_written", moved.bytes_written()}});
  }
  return sites;
}

Json repair_json(const RepairWait& wait, const std::string& plan, bool waited) {
  Json shards = Json::array();
  uint64_t read = 0, written = 0, between = 0;
  for (size_t i = 0; i < wait.lines.size(); ++i) {
    const auto& line = wait.lines[i];
    read += line.bytes_read();
    written += line.bytes_written();
    between += line.bytes_between_sites();
    shards.push_back({{"stripe", line.stripe()},
                      {"column", line.column()},
                      {"method", line.method()},
                      {"from", site_name(wait.last, line.from_site())},
                      {"to", site_name(wait.last, line.to_site())},
                      {"bytes", line.bytes()},
                      {"bytes_read", line.bytes_read()},
                      {"bytes_written", line.bytes_written()},
                      {"bytes_between_sites", line.bytes_between_sites()},
                      {"sites", sites_json(wait, i)},
                      {"ms", line.took_ms()}});
  }
  Json obstacles = Json::array();
  for (const auto& text : wait.last.obstacles()) obstacles.push_back(text);
  return {{"waited", waited},
          {"plan", plan},
          {"shards_checked", wait.last.shards_checked()},
          {"missing_found", wait.last.missing_found()},
          {"repaired", wait.lines.size()},
          {"bytes_read", read},
          {"bytes_written", written},
          {"bytes_between_sites", between},
          {"queued", wait.last.queued()},
          {"put_off", wait.last.put_off()},
          {"obstacles", std::move(obstacles)},
          {"shards", std::move(shards)}};
}

std::string repair_text(const RepairWait& wait, const std::string& plan, bool waited) {
  uint64_t read = 0, written = 0, between = 0;
  std::map<std::string, size_t> methods;
  for (const auto& line : wait.lines) {
    read += line.bytes_read();
    written += line.bytes_written();
    between += line.bytes_between_sites();
    ++methods[line.method()];
  }
  std::string out;
  if (plan != "exact") out += fmt::format("repairs are planned {}\n", plan);
  if (waited) {
    out += fmt::format("{} shards repaired: {} read, {} written, {} of it between sites\n",
                       wait.lines.size(), human_bytes(read), human_bytes(written),
                       human_bytes(between));
    for (const auto& [method, count] : methods) out += fmt::format("  {} by {}\n", count, method);
  }
  if (!waited || wait.last.queued() > 0) {
    out += fmt::format("{} stripes in the queue, {} of them cannot be repaired now\n",
                       wait.last.queued(), wait.last.put_off());
  }
  for (const auto& text : wait.last.obstacles()) out += "  " + printable(text) + "\n";
  return out;
}

// Sets how repairs are planned, where asked to; how they are.
result<std::string> choose_plan(DaemonLink& link, const std::string& plan) {
  pb::AdminRequest request;
  request.mutable_repair_details()->set_plan(plan);
  TRY(const auto reply, call_admin(link, request));
  return reply.repair_details().plan();
}

result<RepairWait> ask(const CommandContext& context, bool wait, bool scrub, std::string& plan) {
  TRY(auto link, connect_to_daemon(context));
  TRY(plan, choose_plan(link, plan));
  pb::Request request;
  request.mutable_repair()->set_start(true);
  request.mutable_repair()->set_scrub(scrub);
  request.mutable_repair()->set_lines_after(~uint64_t{0});
  TRY(auto reply, link.call(std::move(request)));
  if (wait) return wait_for_repairs(link, reply.repair().next_line(), context.json, context.json);
  RepairWait now;
  now.last = std::move(*reply.mutable_repair());
  return now;
}

}  // namespace

int run_repair(const CommandContext& context, bool wait, bool scrub, std::string plan) {
  auto done = ask(context, wait, scrub, plan);
  if (!done) return report_failure(done.error());
  fmt::print("{}", context.json ? json_text(repair_json(done.value(), plan, wait))
                                : repair_text(done.value(), plan, wait));
  if (!wait || done.value().last.queued() == 0) return kExitOk;
  const auto& last = done.value().last;
  fmt::print(stderr, "datacloud: {} stripes could not be repaired now; they stay in the queue{}\n",
             last.queued(), last.obstacles().empty() ? "" : ": " + printable(last.obstacles(0)));
  return kExitFailed;
}

}  // namespace datacloud
