// `datacloud recover`: the daemon's metadata, rebuilt from the sites, with nothing at hand but the
// configuration and the service key.
//
// Nothing at the sites is changed, except by --to, which makes the journal go on from an earlier
// entry. The directory is built under another name and counts once it is renamed; whatever ends the
// command before that, it may be repeated.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include "common/config/config.h"
#include "daemon/checkpoint/rebuild.h"
#include "daemon/checkpoint/recovery_sites.h"
#include "daemon/journal/entry_sealer.h"
#include "daemon/journal/quorum_log.h"
#include "daemon/metadata/journal_records.h"
#include "daemon/metadata/state_directory.h"
#include "tools/commands.h"
#include "tools/exit_codes.h"
#include "tools/progress.h"
#include "tools/report_recover.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

constexpr auto kClaimDeadline = seconds(60);

result<void> check_absent(const std::string& directory) {
  std::error_code ec;
  if (!std::filesystem::exists(directory, ec)) return success();
  return failure(
      Errc::exists,
      fmt::format("{0} is there: the daemon's metadata is not lost. If it must be rebuilt "
                  "nevertheless, stop the daemon and move it away: mv {0} {0}.before-recovery",
                  directory));
}

result<SiteId> site_named(const RecoverySites& opened, const std::string& name) {
  for (const auto& source : opened.sources) {
    if (source.name != name) continue;
    if (source.log) return source.site;
    return failure(Errc::away, fmt::format("site {}: {}", name, source.obstacle));
  }
  return failure(Errc::not_found, fmt::format("no [[site]] is named \"{}\"", name));
}

// What one site has is taken although others may have had more. The journal goes on at the sites
// that answer.
result<pb::JournalSet> surviving_set(const Survey& survey) {
  const auto& chosen = survey.sites[survey.source];
  pb::JournalSet set = survey.set;
  set.clear_sites();
  set.set_number(survey.set.number() + 1);
  for (const auto& site : survey.sites) {
    if (!site.answered || !site.in_set) continue;
    if (journal::ends_before(chosen.head.last, site.head.last)) {
      return failure(
          Errc::invalid,
          fmt::format("site {} has entries up to {}, site {} only up to {}: take {}", site.name,
                      site.head.last.sequence, chosen.name, chosen.head.last.sequence, site.name));
    }
    set.add_sites(site.site);
  }
  if (set.sites_size() > 0) return set;
  return failure(Errc::invalid, fmt::format("site {} is none of the journal's", chosen.name));
}

// Makes the journal go on behind an earlier entry: a daemon that starts adopts nothing later.
result<void> rewind_journal(const RecoverySites& opened, const Recovered& recovered) {
  journal::QuorumLogOptions options;
  options.journal = opened.journal;
  options.claim_deadline = kClaimDeadline;
  for (const uint32_t id : recovered.set.sites()) {
    for (const auto& source : opened.sources) {
      if (source.site == id && source.log) {
        options.members.push_back({static_cast<int>(id), source.name, source.log});
      }
    }
  }
  if (options.members.size() != static_cast<size_t>(recovered.set.sites_size())) {
    return failure(
        Errc::unavailable,
        "--to changes the journal at all its sites, and one of them is not configured or "
        "cannot be opened: bring it back first");
  }
  options.rules =
      journal::quorum_rules(recovered.set.sites_size(), static_cast<int>(recovered.set.losses()));
  TRY(const auto log, journal::QuorumLog::claim(std::move(options)));
  TRY(log->rewind(recovered.position));
  journal::EntrySealer sealer(opened.metadata_key, opened.journal, log->epoch());
  TRY(const auto opening,
      sealer.seal(journal::EntryKind::opening, log->adopted(), log->committed().sequence, {}));
  return log->begin(opening);
}

class Recovery {
 public:
  Recovery(const CommandContext& context, const RecoverOptions& options, const Config& config)
      : context_(context), options_(options), config_(config) {
    metadata_ = metadata_directory(config.daemon).string();
    report_.to = options.to;
    report_.state = metadata_;
  }

  result<RecoveryReport> run() {
    if (!options_.dry_run) {
      TRY(check_absent(metadata_));
    }
    TRY(opened_, open_recovery_sites(config_));
    report_.cloud_uuid = opened_.cloud_uuid;
    report_.cloud_name = opened_.cloud_name;
    std::optional<SiteId> only;
    if (!options_.surviving.empty()) {
      TRY(only, site_named(opened_, options_.surviving));
    }
    // To tell what could be recovered, all of the log is read; to do it, no more than that takes.
    const uint64_t reach = options_.dry_run ? kWholeLog : options_.to.value_or(UINT64_MAX);
    TRY(report_.survey, survey_journal(opened_.sources, opened_.place(), only, reach));
    if (!report_.survey.cloud.name().empty()) report_.cloud_name = report_.survey.cloud.name();
    warn();
    TRY(options_.dry_run ? look() : rebuild());
    return std::move(report_);
  }

 private:
  void warn() {
    const Survey& survey = report_.survey;
    const std::string missing = survey.describe_missing();
    if (!missing.empty()) report_.warnings.push_back("the journal's sites lack: " + missing);
    if (!options_.surviving.empty()) {
      report_.warnings.push_back(fmt::format(
          "taken from site {} alone: it has entries up to {}; entries up to {} are known to have "
          "been at a quorum. What others were told after entry {} may be lost",
          options_.surviving, survey.end.sequence, survey.committed, survey.end.sequence));
    }
    if (options_.to && *options_.to < survey.end.sequence) {
      report_.warnings.push_back(
          fmt::format("entries {} to {} are given up. Files that were deleted or overwritten since "
                      "come back in "
                      "name; contents that were collected meanwhile do not",
                      *options_.to + 1, survey.end.sequence));
    }
  }

  result<void> look() {
    const Survey& survey = report_.survey;
    const FoundRoot* root = survey.root_for(options_.to.value_or(survey.end.sequence));
    if (root == nullptr) {
      return failure(
          Errc::not_found,
          fmt::format("entry {} cannot be recovered: the sites have what leads to entries "
                      "{} to {}",
                      options_.to.value_or(survey.end.sequence), survey.oldest(),
                      survey.end.sequence));
    }
    TRY(report_.health, verify_checkpoint(root->root, opened_.place()));
    bool readable = report_.health->losses_survived >= 0;
    if (!readable) {
      TRY(readable, look_further(*root));
    }
    report_.possible = readable && (survey.enough() || !options_.surviving.empty());
    return success();
  }

  // Whether one before this one can be read: recovery would take that.
  result<bool> look_further(const FoundRoot& damaged) {
    for (const auto& found : report_.survey.roots) {
      if (found.covered >= damaged.covered || found.covered + 1 < report_.survey.floor) continue;
      TRY(const auto health, verify_checkpoint(found.root, opened_.place()));
      if (health.losses_survived < 0) continue;
      report_.warnings.push_back(fmt::format(
          "the newest checkpoint cannot be read; the one before it, of entry {}, can: make another "
          "one (datacloud journal checkpoint) and bring the sites back",
          found.covered));
      return true;
    }
    return false;
  }

  result<void> rebuild() {
    std::optional<pb::JournalSet> set;
    if (!options_.surviving.empty()) {
      TRY(set, surviving_set(report_.survey));
    }
    const auto files = make_posix_file_layer();
    const MetadataStore::Options made{.directory = metadata_ + ".recovering", .files = files};
    Progress progress(context_.json);
    TRY(auto recovered,
        load_beside(config_, opened_, report_.survey, made, options_.to, set.has_value(),
                    [&](const std::string& what, uint64_t done, uint64_t all) {
                      progress.show(done, all, fmt::format("{} {} of {}", what, done, all));
                    }));
    const bool earlier = recovered.position.sequence < report_.survey.end.sequence && options_.to;
    if (earlier) {
      TRY(rewind_journal(opened_, recovered));
    }
    if (earlier || set) {
      TRY(adapt_metadata(made, report_.survey, set));
    }
    TRY(adopt_directory(*files, made.directory, metadata_));
    report_.recovered = std::move(recovered);
    report_.possible = true;
    return success();
  }

  const CommandContext& context_;
  const RecoverOptions& options_;
  const Config& config_;
  std::string metadata_;
  RecoverySites opened_;
  RecoveryReport report_;
};

}  // namespace

int run_recover(const CommandContext& context, const RecoverOptions& options) {
  if (options.surviving.empty() != !options.know) {
    return report_failure(
        Error(Errc::invalid,
              "--surviving SITE takes what one site has, and may lose what others "
              "had: it wants --i-know, and only it does"));
  }
  const auto config = load_config(context.config);
  if (!config) return report_failure(config.error());
  if (config.value().node.joined()) {
    return report_failure(Error(
        Errc::invalid, context.config.string() + " is the configuration of a node: recover on the "
                                                 "machine of the daemon"));
  }
  const auto report = Recovery(context, options, config.value()).run();
  if (!report) return report_failure(report.error());
  fmt::print("{}", context.json ? json_text(recovery_json(report.value()))
                                : recovery_text(report.value(), colour_wanted()));
  return report.value().possible ? kExitOk : kExitFailed;
}

}  // namespace datacloud
