// `datacloud create`: formats a new cloud and says what it survives and what must not be lost.
#include <fmt/format.h>
#include <unistd.h>

#include "common/site/site_set.h"
#include "daemon/journal/quorum_rules.h"
#include "daemon/metadata/journal_records.h"
#include "tools/cloud_creation.h"
#include "tools/commands.h"
#include "tools/exit_codes.h"
#include "tools/json_text.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

Json journal_json(const CreatedCloud& created) {
  if (!created.journal) return {};
  const auto rules = journal::quorum_rules(created.journal->sites_size(),
                                           static_cast<int>(created.journal->losses()));
  return {{"sites", rules.sites},
          {"commit_sites", rules.commit},
          {"losses_survived", rules.commit - 1},
          {"losses_writable", rules.writable},
          {"data_losses", created.tolerance.sites},
          {"witnesses_missing", rules.witnesses}};
}

Json created_json(const Config& config, const CreatedCloud& created) {
  Json sites = Json::array();
  for (int i = 0; i < created.cloud.sites_size(); i++) {
    sites.push_back(
        {{"id", created.cloud.sites(i).id()},
         {"name", created.cloud.sites(i).name()},
         {"location", site_place(config.sites[static_cast<size_t>(i)], created.cloud.uuid())}});
  }
  return {
      {"cloud",
       {{"name", created.cloud.name()},
        {"uuid", created.cloud.uuid()},
        {"code", created.cloud.root_policy().code()}}},
      {"tolerance", created.tolerance.text},
      {"overhead", created.overhead},
      {"journal", journal_json(created)},
      {"awaited", created.awaited},
      {"journal_awaited", created.journal_awaited},
      {"write_sites_min", created.cloud.write_sites_min()},
      {"sites", std::move(sites)},
      {"state", config.daemon.state.string()},
      {"keys", {{"data", config.keys.data.string()}, {"service", config.keys.service.string()}}},
      {"warnings", created.warnings}};
}

std::string created_text(const Config& config, const CreatedCloud& created, bool colours) {
  std::string out =
      fmt::format("cloud     {} ({}) created on {} sites\n", printable(created.cloud.name()),
                  created.cloud.uuid(), created.cloud.sites_size());
  out += fmt::format("code      {}: {:.2f} bytes stored per byte of incompressible data\n",
                     created.cloud.root_policy().code(), created.overhead);
  out += fmt::format("survives  {}\n", created.tolerance.text);
  if (created.journal) {
    const char* title = "journal   ";
    for (const auto& line : describe_strength(*created.journal, created.tolerance.sites)) {
      out += title + line + "\n";
      title = "          ";
    }
  }
  out +=
      "groups    off; `datacloud policy set DIR --group T` adds an XOR row per T stripes: 1/T more "
      "space,\n          and one lost shard is repaired inside its site\n";
  for (const auto& warning : created.warnings) {
    out += coloured("warning   " + printable(warning), Colour::warning, colours) + "\n";
  }
  out += fmt::format(
      "keys      {}  (data: mounts need it)\n          {}  (service: the daemon "
      "needs it)\n",
      config.keys.data.string(), config.keys.service.string());
  out += coloured(
      "          WHOEVER LOSES THESE TWO FILES LOSES ALL DATA: nobody can restore "
      "them.\n"
      "          Copy them to a safe place now, and print them: datacloud key backup.",
      Colour::bad, colours);
  const std::string file = config.file.string();
  out += fmt::format("\nnext      datacloudd --config {}\n", file);
  if (!created.awaited.empty()) {
    out += fmt::format(
        "          for each site that another machine serves ({0}):\n"
        "            here:   datacloud --config {1} node add SITE --role site\n"
        "            there:  datacloud join LINE; its folder in the [[site]] table; datacloudd "
        "--site SITE\n"
        "          datacloud --config {1} create --finish{2}\n",
        fmt::join(created.awaited, ", "), file, created.journal_awaited ? " --journal" : "");
  }
  return out + fmt::format("          mount.datacloud {} MOUNTPOINT\n", file);
}

}  // namespace

int run_create(const CommandContext& context, const CreateOptions& options) {
  if (options.finish) return run_create_finish(context, options);
  auto config = load_config(context.config);
  if (!config) return report_failure(config.error());
  if (config.value().node.joined()) {
    return report_failure(Error(Errc::invalid, context.config.string() +
                                                   " is the configuration of a node: its cloud "
                                                   "exists already"));
  }
  const auto chosen = chosen_features(options.features);
  if (!chosen) return report_failure(chosen.error());
  auto created = create_cloud(config.value(), ::getuid(), ::getgid(), chosen.value(),
                              {.wanted = options.journal,
                               .accept_weaker = options.accept_weaker,
                               .with_inline = options.features == "all"});
  if (!created) return report_failure(created.error());
  fmt::print("{}", context.json ? json_text(created_json(config.value(), created.value()))
                                : created_text(config.value(), created.value(), colour_wanted()));
  return kExitOk;
}

}  // namespace datacloud
