// What the journal is worth now, as text and JSON.
#include <fmt/format.h>

#include "daemon/metadata/journal_records.h"
#include "tools/reports.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

pb::JournalSet set_of(const pb::JournalStatus& status) {
  pb::JournalSet set;
  *set.mutable_sites() = status.set();
  set.set_losses(status.f());
  return set;
}

uint64_t behind(const pb::JournalStatus& status, const pb::JournalStatus::Site& site) {
  return status.last() > site.acknowledged() ? status.last() - site.acknowledged() : 0;
}

Json audit_json(const pb::JournalAudit& audit) {
  Json problems = Json::array();
  for (const auto& problem : audit.problems()) problems.push_back(problem);
  return {
      {"running", audit.running()},
      {"finished_s",
       audit.finished_ns() != 0 ? Json(static_cast<double>(audit.finished_ns()) / 1e9) : Json()},
      {"entries", audit.entries()},
      {"columns", audit.columns()},
      {"passed_over", audit.passed_over()},
      {"findings", audit.findings()},
      {"repaired", audit.repaired()},
      {"unrepaired", audit.unrepaired()},
      {"problems", std::move(problems)}};
}

std::string audit_text(const pb::JournalAudit& audit, bool colours) {
  std::string out = "audited   ";
  if (audit.finished_ns() == 0) {
    out += audit.running() ? "for the first time, just now\n" : "not yet\n";
  } else {
    out += fmt::format("{}: {} entries and {} columns of checkpoints",
                       local_time(audit.finished_ns()), audit.entries(), audit.columns());
    if (audit.passed_over() > 0) out += fmt::format(", {} passed over", audit.passed_over());
    out += "\n";
  }
  if (audit.findings() > 0) {
    out +=
        fmt::format("          {} wrong so far, {} repaired\n", audit.findings(), audit.repaired());
  }
  for (const auto& problem : audit.problems()) {
    out += "          " + coloured(printable(problem), Colour::bad, colours) + "\n";
  }
  return out;
}

}  // namespace

Json journal_json(const pb::JournalStatus& status) {
  if (!status.used()) return {{"used", false}};
  Json sites = Json::array();
  for (const auto& site : status.sites()) {
    sites.push_back({{"id", site.id()},
                     {"name", site.name()},
                     {"state", site.state()},
                     {"acknowledged", site.acknowledged()},
                     {"behind", behind(status, site)},
                     {"reason", site.reason()}});
  }
  return {{"used", true},
          {"epoch", status.epoch()},
          {"last", status.last()},
          {"committed", status.committed()},
          {"floor", status.floor()},
          {"commit_sites", status.commit_sites()},
          {"losses_survived", status.losses_survived()},
          {"data_losses", status.data_losses()},
          {"witnesses_missing", status.witnesses()},
          {"margin", status.margin()},
          {"sites", std::move(sites)},
          {"bytes", status.bytes()},
          {"bytes_max", status.bytes_max()},
          {"uncommitted_bytes", status.uncommitted_bytes()},
          {"uncommitted_bytes_max", status.uncommitted_bytes_max()},
          {"waiting", status.waiting()},
          {"audit", audit_json(status.audit())},
          {"checkpoint", status.checkpoint() != 0 ? Json(status.checkpoint()) : Json()},
          {"checkpoint_s", status.checkpoint() != 0
                               ? Json(static_cast<double>(status.checkpoint_ns()) / 1e9)
                               : Json()}};
}

std::string journal_text(const pb::JournalStatus& status, bool colours) {
  if (!status.used()) {
    return "journal   off: only a backup of the daemon's state survives the loss of its machine; "
           "`datacloud journal\n          enable` switches it on\n";
  }
  std::string out = fmt::format("journal   epoch {}: {} entries, {} committed\n", status.epoch(),
                                status.last(), status.committed());
  const char* title = "survives  ";
  for (const auto& line : describe_strength(set_of(status), status.data_losses())) {
    out += title + line + "\n";
    title = "          ";
  }
  out += fmt::format("kept      {} of {}, from entry {}\n", human_bytes(status.bytes()),
                     human_bytes(status.bytes_max()), status.floor());
  out += fmt::format("at risk   {} of {} are at no quorum; {} requests wait\n",
                     human_bytes(status.uncommitted_bytes()),
                     human_bytes(status.uncommitted_bytes_max()), status.waiting());
  out += status.checkpoint() != 0
             ? fmt::format("kept in   checkpoint of entry {}, made {}\n", status.checkpoint(),
                           local_time(status.checkpoint_ns()))
             : coloured("kept in   no checkpoint yet: the journal alone rebuilds nothing\n",
                        Colour::warning, colours);
  out += audit_text(status.audit(), colours);
  if (status.margin() < 0) {
    out +=
        coloured("margin    too few sites answer: nothing becomes durable", Colour::bad, colours);
  } else {
    out += fmt::format("margin    {} more {} may go away before nothing becomes durable",
                       status.margin(), status.margin() == 1 ? "site" : "sites");
  }
  out += "\n\n";
  Table table({{"SITE"}, {"STATE"}, {"ACKNOWLEDGED"}, {"BEHIND"}, {"REASON"}});
  for (const auto& site : status.sites()) {
    table.add({printable(site.name()), site.state(), std::to_string(site.acknowledged()),
               std::to_string(behind(status, site)), printable(site.reason())});
  }
  return out + table.text(colours);
}

}  // namespace datacloud
