// From sites of the configuration to members of the journal (journal_sites.h).
#include "daemon/program/journal_sites.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/site/site_set.h"
#include "daemon/journal/site_logs.h"
#include "daemon/metadata/journal_records.h"

namespace datacloud {
namespace {

const pb::SiteInfo* info_of(const pb::Cloud& cloud, uint32_t id) {
  const auto it = std::find_if(cloud.sites().begin(), cloud.sites().end(),
                               [&](const auto& site) { return site.id() == id; });
  return it != cloud.sites().end() ? &*it : nullptr;
}

const SiteConfig* config_of(const Config& config, const std::string& name) {
  const auto it = std::find_if(config.sites.begin(), config.sites.end(),
                               [&](const auto& site) { return site.name == name; });
  return it != config.sites.end() ? &*it : nullptr;
}

}  // namespace

result<journal::QuorumLogOptions> quorum_options(const Config& config, const pb::Cloud& cloud,
                                                 const pb::JournalSet& set) {
  if (!valid_set(set)) {
    return failure(Errc::corrupt,
                   "the record of the journal's sites is damaged; run datacloud fsck");
  }
  journal::QuorumLogOptions options;
  TRY(options.journal, journal_id(cloud.uuid()));
  for (const uint32_t id : set.sites()) {
    journal::JournalMember member;
    member.site = static_cast<int>(id);
    const pb::SiteInfo* info = info_of(cloud, id);
    const SiteConfig* site = info != nullptr ? config_of(config, info->name()) : nullptr;
    member.name = info != nullptr ? info->name() : fmt::format("number {}", id);
    if (site == nullptr) {
      member.log = journal::make_absent_log("it is not configured");
    } else {
      TRY(member.log, journal::open_site_log(*site, marker_of(cloud, *info), options.journal,
                                             set.segment_bytes()));
    }
    options.members.push_back(std::move(member));
  }
  options.rules = journal::quorum_rules(set.sites_size(), static_cast<int>(set.losses()));
  return options;
}

result<void> format_logs(const std::filesystem::path& configuration, const pb::Cloud& cloud,
                         const pb::JournalSet& set) {
  TRY(const auto config, load_config(configuration));
  TRY(const auto id, journal_id(cloud.uuid()));
  for (const uint32_t number : set.sites()) {
    const pb::SiteInfo* info = info_of(cloud, number);
    const SiteConfig* site = info != nullptr ? config_of(config, info->name()) : nullptr;
    if (site == nullptr) {
      return failure(Errc::not_found, fmt::format("{}: site number {} is not configured",
                                                  config.file.string(), number));
    }
    TRY(journal::format_site_log(*site, marker_of(cloud, *info), id, set.segment_bytes()));
  }
  return success();
}

result<void> check_no_journal(const Config& config, const pb::Cloud& cloud) {
  const auto id = journal_id(cloud.uuid());
  if (!id) return success();
  for (const auto& site : config.sites) {
    if (!journal::has_journal_entries(site, id.value())) continue;
    return failure(Errc::exists,
                   fmt::format("site {} holds a journal of the cloud {}, of which the metadata in "
                               "{} knows nothing: it was put back from a backup that is older. "
                               "Rebuild it from the sites: datacloud recover",
                               site.name, cloud.name(), config.daemon.state.string()));
  }
  return success();
}

}  // namespace datacloud
