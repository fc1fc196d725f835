// The part of `status` about protection, queues and background work.
#include <fmt/format.h>

#include <cmath>

#include "tools/reports.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

double rounded(double value) { return std::round(value * 100) / 100; }

std::string expected_end(const pb::StatusDetails::Queue& queue) {
  if (queue.waiting() == 0) return "nothing waits";
  const std::string waiting = fmt::format("{} wait, {:.1f}/s", queue.waiting(), queue.per_second());
  if (queue.expected_s() < 0) return waiting + ", no end in sight";
  return waiting + ", done in " +
         human_duration(static_cast<uint64_t>(std::min(queue.expected_s(), 1e12) * 1000));
}

std::string rate_text(uint64_t bytes_per_second) {
  return bytes_per_second == 0 ? "no limit" : human_bytes(bytes_per_second) + "/s per site";
}

}  // namespace

pb::StatusDetails details_of(const pb::StatusReply& status) {
  pb::StatusDetails details;
  if (!details.ParseFromString(status.details())) details.Clear();
  return details;
}

Json queues_json(const pb::StatusDetails& details) {
  Json list = Json::array();
  for (const auto& queue : details.queues()) {
    list.push_back(
        {{"name", queue.name()},
         {"waiting", queue.waiting()},
         {"per_second", rounded(queue.per_second())},
         {"expected_s", queue.expected_s() < 0 ? Json() : Json(rounded(queue.expected_s()))}});
  }
  return list;
}

Json background_json(const pb::StatusDetails& details) {
  const auto& now = details.background();
  Json windows = Json::array();
  for (const auto& window : now.windows()) windows.push_back(window);
  return {{"paused", now.paused()},
          {"site_bytes_per_second_max", now.site_bytes_per_second_max()},
          {"windows", std::move(windows)},
          {"window_open", now.window_open()},
          {"outside_bytes_per_second_max", now.outside_bytes_per_second_max()}};
}

Json operations_json(const pb::StatusDetails& details) {
  Json counts = Json::object();
  for (const auto& operation : details.operations()) counts[operation.name()] = operation.count();
  return counts;
}

std::string limits_text(const pb::StatusDetails& details) {
  const auto& now = details.background();
  std::string out =
      fmt::format("limits    background work is {}; {}\n", now.paused() ? "PAUSED" : "going on",
                  rate_text(now.site_bytes_per_second_max()));
  if (now.windows().empty()) return out;
  std::string windows;
  for (const auto& window : now.windows()) windows += (windows.empty() ? "" : ", ") + window;
  return out + fmt::format("windows   {}: {} now; outside of them at most {}\n", windows,
                           now.window_open() ? "open" : "closed",
                           rate_text(now.outside_bytes_per_second_max()));
}

std::string background_text(const pb::StatusDetails& details) {
  std::string remaining;
  for (int losses = 0; losses < details.stripes_by_remaining_size(); ++losses) {
    if (details.stripes_by_remaining(losses) == 0) continue;
    remaining += fmt::format("{}{} stripes survive {} more", remaining.empty() ? "" : ", ",
                             details.stripes_by_remaining(losses), losses);
  }
  std::string out = fmt::format("protected {}\n",
                                remaining.empty() ? std::string("nothing is stored") : remaining);
  for (const auto& queue : details.queues()) {
    out += fmt::format("{:<10}{}{}\n", queue.name(), expected_end(queue),
                       queue.name() != "repair" || details.repair_put_off() == 0
                           ? std::string()
                           : fmt::format(" ({} for their sites)", details.repair_put_off()));
  }
  out += fmt::format("done      {} shards repaired, {} stripes merged; audit cycle {:.0f} %\n",
                     details.shards_repaired(), details.stripes_merged(),
                     100 * details.audit_cycle_done());
  return out + limits_text(details);
}

}  // namespace datacloud
