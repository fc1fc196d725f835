// See rebuild.h.
#include "daemon/checkpoint/rebuild.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "common/base/clock.h"

namespace datacloud {
namespace {

// unavailable: too few sites of the journal answered to be sure that nothing is missing.
result<void> check_quorum(const Survey& survey) {
  if (survey.enough()) return success();
  return failure(
      Errc::unavailable,
      fmt::format("{} of the {} sites that hold the journal answer, and {} are needed to be sure "
                  "that nothing is missing. Away: {}. Bring one of them back; or, if they are lost "
                  "for good: datacloud recover --surviving {} --i-know",
                  survey.answered, survey.set.sites_size(), survey.rules.adopt,
                  survey.describe_missing(), survey.sites[survey.source].name));
}

// The set that counts; the survey knows that of a checkpoint.
void count_set(Survey& survey, const pb::JournalSet& set) {
  survey.set = set;
  survey.rules = journal::quorum_rules(set.sites_size(), static_cast<int>(set.losses()));
  survey.answered = 0;
  for (auto& site : survey.sites) {
    site.in_set = std::find(set.sites().begin(), set.sites().end(), site.site) != set.sites().end();
    if (site.in_set && site.answered) ++survey.answered;
  }
}

}  // namespace

result<Recovered> load_beside(const Config& config, const RecoverySites& opened, Survey& survey,
                              const MetadataStore::Options& made, std::optional<uint64_t> to,
                              bool any, const RecoveryProgress& progress) {
  if (!any) {
    TRY(check_quorum(survey));
  }
  std::error_code ec;
  std::filesystem::create_directories(config.daemon.state.parent_path(), ec);
  if (::mkdir(config.daemon.state.c_str(), 0700) != 0 && errno != EEXIST) {
    return failure(Error::posix(errno, "cannot create " + config.daemon.state.string()));
  }
  TRY(auto recovered, load_metadata(survey, opened.sources, opened.place(), made, to, progress));
  if (recovered.set.number() != survey.set.number()) {
    count_set(survey, recovered.set);
    if (!any) {
      TRY(check_quorum(survey));
    }
  }
  return recovered;
}

result<Rebuilt> rebuild_metadata(const Config& config, const std::string& directory,
                                 const RecoveryProgress& progress) {
  TRY(const auto opened, open_recovery_sites(config));
  TRY(auto survey, survey_journal(opened.sources, opened.place()));
  const auto files = make_posix_file_layer();
  const MetadataStore::Options made{.directory = directory + ".recovering", .files = files};
  Rebuilt out;
  TRY(out.recovered, load_beside(config, opened, survey, made, {}, false, progress));
  std::error_code ec;
  if (std::filesystem::exists(directory, ec)) {
    out.aside = directory + ".replaced-" + std::to_string(wall_now_ns());
    std::filesystem::rename(directory, out.aside, ec);
    if (ec) return failure(Error(ec, fmt::format("cannot rename {} to {}", directory, out.aside)));
  }
  TRY(adopt_directory(*files, made.directory, directory));
  return out;
}

}  // namespace datacloud
