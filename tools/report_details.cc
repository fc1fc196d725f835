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

std::string limit_text(const pb::BackgroundReply& now) {
  const std::string bytes = rate_text(now.site_bytes_per_second_max());
  if (now.site_operations_per_second_max() == 0) return bytes;
  return fmt::format("{}; {} operations/s per site", bytes, now.site_operations_per_second_max());
}

// Of all sites together; by site in the JSON.
std::string scrub_line(const pb::StatusDetails& details) {
  if (details.scrub_cycle_ms() == 0) return "scrub     only when asked for\n";
  if (details.scrubs_size() == 0) return "scrub     no site was listed yet\n";
  uint64_t walks = UINT64_MAX, missing = 0, orphans = 0, unknown = 0, walking = 0;
  double listed = 0;
  for (const auto& scrub : details.scrubs()) {
    walks = std::min(walks, scrub.walk().walks());
    missing += scrub.walk().missing();
    orphans += scrub.walk().orphans();
    unknown += scrub.walk().unknown_before();
    walking += scrub.walking() ? 1 : 0;
    listed += scrub.listed_share();
  }
  const std::string now = walking == 0 ? std::string("resting")
                                       : fmt::format("{} sites being listed, {:.0f} %", walking,
                                                     100 * listed / static_cast<double>(walking));
  return fmt::format(
      "scrub     {}; each site listed {} times: {} shards missing, {} objects deleted that nobody "
      "named, {} foreign\n",
      now, walks, missing, orphans, unknown);
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
          {"site_operations_per_second_max", now.site_operations_per_second_max()},
          {"windows", std::move(windows)},
          {"window_open", now.window_open()},
          {"outside_bytes_per_second_max", now.outside_bytes_per_second_max()}};
}

Json scrubs_json(const pb::StatusReply& status, const pb::StatusDetails& details) {
  Json list = Json::array();
  for (const auto& scrub : details.scrubs()) {
    const auto& walk = scrub.walk();
    const Json ended =
        walk.walks() == 0 ? Json() : Json(static_cast<double>(walk.ended_ns() / 1'000'000) / 1000);
    list.push_back({{"site", site_name(status.cloud(), walk.site())},
                    {"walking", scrub.walking()},
                    {"listed_share", rounded(scrub.listed_share())},
                    {"walks", walk.walks()},
                    {"ended_s", ended},
                    {"objects_listed", walk.objects()},
                    {"shards_looked_up", walk.shards()},
                    {"missing", walk.missing()},
                    {"orphans_deleted", walk.orphans()},
                    {"foreign", walk.unknown_before()}});
  }
  return list;
}

Json operations_json(const pb::StatusDetails& details) {
  Json counts = Json::object();
  for (const auto& operation : details.operations()) counts[operation.name()] = operation.count();
  return counts;
}

std::string limits_text(const pb::StatusDetails& details) {
  const auto& now = details.background();
  std::string out = fmt::format("limits    background work is {}; {}\n",
                                now.paused() ? "PAUSED" : "going on", limit_text(now));
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
  return out + scrub_line(details) + limits_text(details);
}

}  // namespace datacloud
