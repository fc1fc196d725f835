// datacloud-audit: the third party's program. Needs a bundle (`datacloud auditor export`), the list
// of sites and read access to them; holds no key of the cloud but the audit keys.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>

#include "common/base/hex.h"
#include "common/base/log.h"
#include "common/config/site_list.h"
#include "tools/audit/third_party.h"
#include "tools/exit_codes.h"
#include "tools/progress.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

constexpr int kExitFindings = 3;

struct Arguments {
  ThirdPartyOptions audit;
  std::string signer, sites, report, key = "auditor.key";
  bool quiet = false;
};

void add_options(CLI::App& app, Arguments& a) {
  app.add_option("--bundle", a.audit.bundle, "What `datacloud auditor export` has written")
      ->required();
  app.add_option("--refresh", a.audit.refresh,
                 "What `datacloud auditor export --since` has written for that bundle");
  app.add_option(
         "--sites", a.sites,
         "The sites: a TOML file with the [[site]] tables of the cloud, and [node] for served "
         "sites")
      ->required();
  app.add_option("--signer", a.signer,
                 "Public key of the cloud's daemon, as `datacloud auditor signer` prints it")
      ->required();
  app.add_option("--report", a.report, "Write the signed report to this file")->required();
  app.add_option("--key", a.key, "The auditor's own signing key; made when absent, mode 0600")
      ->capture_default_str();
  auto* sample = app.add_option("--sample", a.audit.samples, "Only this many shards, at random");
  auto* confidence =
      app.add_option("--confidence", a.audit.confidence,
                     "As many shards as find the share --damage of bad ones with this probability");
  app.add_option("--damage", a.audit.damage, "See --confidence")->capture_default_str();
  app.add_option("--compare", a.audit.compare_one_in,
                 "Compare the columns of one in so many stripes of basic-* and msr-* codes, which "
                 "costs 4 KiB for each packet of a shard; 1: of all, 0: of none. Where shards are "
                 "read as a whole it costs nothing, and all are")
      ->capture_default_str();
  auto* recheck = app.add_option("--recheck", a.audit.recheck,
                                 "Only what this report found; what a refreshed bundle says was "
                                 "replaced since is outdated, no finding");
  sample->excludes(confidence)->excludes(recheck);
  confidence->excludes(recheck);
  app.add_flag("--quiet", a.quiet, "Print nothing but failures");
  app.set_version_flag("--version", std::string("datacloud-audit ") + DATACLOUD_VERSION);
  app.footer(
      "Exit codes: 0 every shard asked for was proven, 1 failed (the reason is on stderr), 2 "
      "wrong command line, 3 the report has findings.");
}

uint64_t number(const ReportJson& report, const char* name) {
  return report.at(name).get<uint64_t>();
}

void tell(const ReportJson& report) {
  const uint64_t covered = number(report, "bytes_covered");
  const uint64_t transferred = number(report, "bytes_transferred");
  fmt::print(
      "{} shards of {} stripes asked for {}: {} between sites ({:.3f} %), {} findings; the "
      "columns of {} stripes compared\n",
      number(report, "shards_checked"), number(report, "stripes_asked"), human_bytes(covered),
      human_bytes(transferred),
      100.0 * double(transferred) / double(std::max<uint64_t>(1, covered)),
      number(report, "findings_total"), number(report, "stripes_compared"));
  if (number(report, "read_remotely") > 0) {
    fmt::print(
        "{} shards were read as a whole: their sites cannot compute answers (directories, or "
        "OSDs without the class), which costs traffic\n",
        number(report, "read_remotely"));
  }
  for (const auto& f : report.at("findings")) {
    fmt::print("  stripe {} column {} at site {}: {} {}\n", f.at("stripe").get<uint64_t>(),
               f.at("column").get<int>(), printable(f.at("site").get<std::string>()),
               f.at("reason").get<std::string>(), printable(f.at("detail").get<std::string>()));
  }
  for (const auto& doubt : report.at("doubts")) {
    fmt::print("{}\n", printable(doubt.get<std::string>()));
  }
}

// Shards in the list of findings that count: outdated ones do not.
bool clean(const ReportJson& report) {
  const auto& findings = report.at("findings");
  return report.at("doubts").empty() &&
         std::all_of(findings.begin(), findings.end(),
                     [](const auto& f) { return f.at("reason") == "outdated"; });
}

result<int> audit(Arguments& a) {
  a.audit.signer.resize(kPublicKeyBytes);
  if (!from_hex(a.signer, a.audit.signer)) {
    return failure(Errc::invalid, "--signer is a public key of 64 lower-case hexadecimal digits");
  }
  TRY(const auto key, load_auditor_key(a.key));
  TRY(const auto sites, load_site_list(a.sites));
  Progress progress(a.quiet);
  TRY(const auto report, audit_as_third_party(a.audit, sites, [&](uint64_t done, uint64_t all) {
        progress.show(done, all, fmt::format("{} of {} stripes", done, all));
      }));
  TRY(write_text_file(a.report, sign_report(report, key)));
  if (!a.quiet) tell(report);
  return clean(report) ? int{kExitOk} : kExitFindings;
}

int run(int argc, char** argv) {
  CLI::App app{"Have the sites of a cloud prove what they hold, without its daemon and its keys.",
               "datacloud-audit"};
  Arguments arguments;
  add_options(app, arguments);
  app.failure_message([](const CLI::App*, const CLI::Error& error) {
    return std::string("datacloud-audit: ") + error.what() + "; see datacloud-audit(8) or --help\n";
  });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  const auto& a = arguments.audit;
  if (a.confidence < 0 || a.confidence >= 1 || a.damage <= 0 || a.damage >= 1) {
    fmt::print(stderr, "datacloud-audit: --confidence and --damage are between 0 and 1\n");
    return kExitUsage;
  }
  const auto code = audit(arguments);
  if (code) return code.value();
  fmt::print(stderr, "datacloud-audit: {}\n", printable(code.error().message()));
  return kExitFailed;
}

}  // namespace
}  // namespace datacloud

int main(int argc, char** argv) {
  spdlog::set_level(spdlog::level::off);  // failures are told once
  return datacloud::run(argc, argv);
}
