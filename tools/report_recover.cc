// See report_recover.h.
#include "tools/report_recover.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/clock.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

uint64_t age_ms(int64_t ns) {
  const int64_t now = wall_now_ns();
  return ns <= 0 || ns > now ? 0 : static_cast<uint64_t>((now - ns) / 1'000'000);
}

// The last entry that comes back.
uint64_t last_entry(const RecoveryReport& report) {
  if (report.recovered) return report.recovered->position.sequence;
  return report.to.value_or(report.survey.end.sequence);
}

Json checkpoint_json(const RecoveryReport& report) {
  Json json = nullptr;
  const FoundRoot* root = report.survey.root_for(last_entry(report));
  if (root == nullptr) return json;
  json = {{"number", checkpoint_name(root->root.number())},
          {"covers", root->covered},
          {"made_ns", root->root.made_ns()},
          {"age_s", age_ms(root->root.made_ns()) / 1000},
          {"records", root->root.records()}};
  if (report.health) {
    json["columns"] = report.health->columns;
    json["columns_missing"] = report.health->missing;
    json["columns_damaged"] = report.health->damaged;
    json["losses_survived"] = report.health->losses_survived;
  }
  return json;
}

std::string site_line(const Survey& survey, const SurveyedSite& site, bool colours) {
  std::string state;
  Colour colour = Colour::none;
  if (site.answered) {
    const bool last = site.head.last == survey.end;
    state = fmt::format("entries {} to {}", site.head.floor, site.head.last.sequence);
    if (!last)
      state +=
          fmt::format(", behind by {}",
                      survey.end.sequence - std::min(survey.end.sequence, site.head.last.sequence));
    colour = Colour::good;
  } else {
    state = printable(site.reason);
    colour = site.in_set ? Colour::bad : Colour::dim;
  }
  return fmt::format("  {:<12} {}\n", printable(site.name), coloured(state, colour, colours));
}

}  // namespace

Json recovery_json(const RecoveryReport& report) {
  const Survey& survey = report.survey;
  Json sites = Json::array();
  for (const auto& site : survey.sites) {
    Json one = {{"id", site.site},
                {"name", site.name},
                {"answered", site.answered},
                {"in_set", site.in_set}};
    if (site.answered) {
      one["floor"] = site.head.floor;
      one["last"] = site.head.last.sequence;
    } else {
      one["reason"] = site.reason;
    }
    sites.push_back(std::move(one));
  }
  Json json = {{"cloud", {{"name", report.cloud_name}, {"uuid", report.cloud_uuid}}},
               {"possible", report.possible},
               {"recovered", report.recovered.has_value()},
               {"sites", std::move(sites)},
               {"sites_answered", survey.answered},
               {"sites_needed", survey.rules.adopt},
               {"source", survey.sites[survey.source].name},
               {"first", survey.oldest()},
               {"last", survey.end.sequence},
               {"committed", survey.committed},
               {"journal_bytes", survey.whole() ? Json(survey.bytes) : Json(nullptr)},
               {"checkpoint", checkpoint_json(report)},
               {"inodes_at_checkpoint", survey.totals.inodes},
               {"warnings", report.warnings}};
  if (report.recovered) {
    json["state"] = report.state;
    json["entry"] = report.recovered->position.sequence;
    json["transactions"] = report.recovered->transactions;
    json["problems"] = report.recovered->problems;
  } else if (report.health) {
    json["problems"] = report.health->problems;
  }
  return json;
}

std::string recovery_text(const RecoveryReport& report, bool colours) {
  const Survey& survey = report.survey;
  std::string out =
      fmt::format("cloud       {} ({})\n", printable(report.cloud_name), report.cloud_uuid);
  out += fmt::format("journal     {} of its {} sites answer, {} are needed; taken from {}\n",
                     survey.answered, survey.set.sites_size(), survey.rules.adopt,
                     printable(survey.sites[survey.source].name));
  for (const auto& site : survey.sites) out += site_line(survey, site, colours);
  const uint64_t last = last_entry(report);
  if (const FoundRoot* root = survey.root_for(last); root != nullptr) {
    out += fmt::format("checkpoint  {} of {} ({} ago): {} records, {} files and directories\n",
                       checkpoint_name(root->root.number()), local_time(root->root.made_ns()),
                       human_duration(age_ms(root->root.made_ns())), root->root.records(),
                       survey.totals.inodes);
    out += fmt::format("entries     {} behind it", last - root->covered);
    if (survey.whole()) out += fmt::format(", {} at each site", human_bytes(survey.bytes));
    out += "\n";
  }
  out += fmt::format("window      --to {} ... {}{}\n", survey.oldest(), survey.end.sequence,
                     survey.whole() ? "" : ", perhaps from before: --dry-run tells");
  if (report.health) {
    const auto& health = *report.health;
    out += fmt::format("columns     {} of {} are whole, {} missing, {} damaged",
                       health.columns - health.missing - health.damaged, health.columns,
                       health.missing, health.damaged);
    out += health.losses_survived < 0
               ? coloured(": the checkpoint cannot be read\n", Colour::bad, colours)
               : fmt::format(": it survives the loss of {} more sites\n", health.losses_survived);
    for (const auto& problem : health.problems) out += "  " + printable(problem) + "\n";
  }
  for (const auto& warning : report.warnings) {
    out += coloured("warning     " + printable(warning), Colour::warning, colours) + "\n";
  }
  if (!report.recovered) {
    return out + (report.possible
                      ? coloured("result      the metadata can be rebuilt from the sites\n",
                                 Colour::good, colours)
                      : coloured("result      the metadata CANNOT be rebuilt now\n", Colour::bad,
                                 colours));
  }
  for (const auto& problem : report.recovered->problems) {
    out += coloured("passed over " + printable(problem), Colour::warning, colours) + "\n";
  }
  return out + fmt::format(
                   "recovered   {}: as of entry {}, {} transactions behind the checkpoint\n"
                   "next        start datacloudd, then: datacloud fsck\n",
                   report.state, report.recovered->position.sequence,
                   report.recovered->transactions);
}

}  // namespace datacloud
