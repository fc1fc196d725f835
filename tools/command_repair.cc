// `datacloud repair`: looks for missing shards at the sites and has everything bad repaired.
#include <fmt/format.h>

#include <map>

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

Json repair_json(const RepairWait& wait, bool waited) {
  Json shards = Json::array();
  uint64_t read = 0, written = 0, between = 0;
  for (const auto& line : wait.lines) {
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
                      {"ms", line.took_ms()}});
  }
  Json obstacles = Json::array();
  for (const auto& text : wait.last.obstacles()) obstacles.push_back(text);
  return {{"waited", waited},
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

std::string repair_text(const RepairWait& wait, bool waited) {
  uint64_t read = 0, written = 0, between = 0;
  std::map<std::string, size_t> methods;
  for (const auto& line : wait.lines) {
    read += line.bytes_read();
    written += line.bytes_written();
    between += line.bytes_between_sites();
    ++methods[line.method()];
  }
  std::string out;
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

result<RepairWait> ask(const CommandContext& context, bool wait, bool scrub) {
  TRY(auto link, connect_to_daemon(context));
  pb::Request request;
  request.mutable_repair()->set_start(true);
  request.mutable_repair()->set_scrub(scrub);
  request.mutable_repair()->set_lines_after(~uint64_t{0});
  TRY(auto reply, link.call(std::move(request)));
  if (wait) return wait_for_repairs(link, reply.repair().next_line(), context.json);
  RepairWait now;
  now.last = std::move(*reply.mutable_repair());
  return now;
}

}  // namespace

int run_repair(const CommandContext& context, bool wait, bool scrub) {
  auto done = ask(context, wait, scrub);
  if (!done) return report_failure(done.error());
  fmt::print("{}", context.json ? json_text(repair_json(done.value(), wait))
                                : repair_text(done.value(), wait));
  return wait && done.value().last.queued() > 0 ? kExitFailed : kExitOk;
}

}  // namespace datacloud
