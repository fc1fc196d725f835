// What the sites have of the journal (recovery.h).
#include <fmt/format.h>

#include <algorithm>
#include <future>
#include <utility>

#include "daemon/checkpoint/checkpoint_rules.h"
#include "daemon/checkpoint/log_reading.h"
#include "daemon/checkpoint/recovery.h"
#include "daemon/journal/entry_sealer.h"
#include "daemon/journal/log_bytes.h"
#include "daemon/metadata/journal_committer.h"
#include "daemon/metadata/journal_records.h"
#include "daemon/metadata/record_keys.h"

namespace datacloud {
namespace {

constexpr int kSurveyAttempts = 5;  // of a log that is trimmed while it is read

SurveyedSite ask_head(const RecoverySource& source, const journal::JournalId& id) {
  SurveyedSite site{.site = source.site, .name = source.name};
  if (source.log == nullptr) {
    site.reason = source.obstacle;
    return site;
  }
  auto head = source.log->head();
  if (!head) {
    site.reason = head.error().is(Errc::not_found) ? "it holds no journal" : head.error().message();
    return site;
  }
  site.head = head.value();
  if (site.head.journal != id) {
    site.reason = "its journal is that of another cloud";
  } else if (site.head.sealed) {
    site.reason = "it has left the journal";
  } else if (site.head.last.sequence == 0) {
    site.reason = "its journal is empty";
  } else {
    site.answered = true;
  }
  return site;
}

std::vector<SurveyedSite> ask_all(const std::vector<RecoverySource>& sources,
                                  const journal::JournalId& id) {
  std::vector<std::future<SurveyedSite>> asked;
  for (const auto& source : sources) {
    asked.push_back(
        std::async(std::launch::async, [&source, &id] { return ask_head(source, id); }));
  }
  std::vector<SurveyedSite> sites;
  for (auto& one : asked) sites.push_back(one.get());
  return sites;
}

result<void> choose_source(Survey& survey, std::optional<SiteId> only) {
  std::optional<size_t> best;
  for (size_t i = 0; i < survey.sites.size(); ++i) {
    const auto& site = survey.sites[i];
    if (!site.answered || (only && site.site != *only)) continue;
    if (!best || journal::ends_before(survey.sites[*best].head.last, site.head.last)) best = i;
  }
  if (best) {
    survey.source = *best;
    return success();
  }
  std::string text = "no journal with entries was found at the sites";
  for (const auto& site : survey.sites) {
    if (!site.answered) text += fmt::format("\n  site {}: {}", site.name, site.reason);
  }
  return failure(Errc::not_found, text);
}

// One pass over the log: its chain, its seals, its roots.
result<void> read_log(Survey& survey, const RecoverySource& source, const CheckpointPlace& place) {
  survey.floor = survey.sites[survey.source].head.floor;
  survey.roots.clear();
  survey.bytes = 0;
  survey.committed = 0;
  journal::EntryOpener opener(place.metadata_key);
  TransactionReader transactions(place.metadata_key);
  TRY(read_entries(
      *source.log, place.journal, survey.floor, {}, [&](const auto& entry) -> result<void> {
        survey.end = entry.position();
        survey.bytes += entry.bytes->size();
        survey.committed = std::max(survey.committed, entry.header.committed);
        TRY(transactions.add(entry));
        if (entry.header.kind != journal::EntryKind::root) return success();
        TRY(const Bytes content, opener.open(entry));
        FoundRoot found{.entry = entry.header.sequence};
        if (!found.root.ParseFromArray(content.data(), static_cast<int>(content.size())) ||
            found.root.position().size() != journal::kPositionBytes) {
          return failure(Errc::corrupt,
                         fmt::format("entry {} of the journal is no root of a checkpoint",
                                     entry.header.sequence));
        }
        found.covered = journal::get_position(as_bytes(found.root.position()), 0).sequence;
        survey.roots.insert(survey.roots.begin(), std::move(found));
        return success();
      }));
  if (!survey.roots.empty()) return success();
  return failure(
      Errc::not_found,
      fmt::format("the journal at site {} has entries {} to {} and no checkpoint yet: the "
                  "metadata cannot be rebuilt from it",
                  survey.sites[survey.source].name, survey.floor, survey.end.sequence));
}

// What the records about the cloud say, from the first checkpoint that can be read.
result<void> read_beginning(Survey& survey, const CheckpointPlace& place) {
  std::string problems;
  for (const auto& found : survey.roots) {
    bool cloud = false, set = false;
    const auto read = read_checkpoint_start(
        found.root, place, [&](std::string_view key, std::string_view value) -> result<void> {
          if (key == key::meta("cloud")) {
            cloud = survey.cloud.ParseFromArray(value.data(), static_cast<int>(value.size()));
          } else if (key == key::meta(kJournalRecord)) {
            set = survey.set.ParseFromArray(value.data(), static_cast<int>(value.size()));
          } else if (key == key::meta("totals")) {
            (void)decode_totals(value, survey.totals);
          }
          return success();
        });
    if (read && cloud && set && valid_set(survey.set)) return success();
    problems +=
        fmt::format("\n  checkpoint {}: {}", checkpoint_name(found.root.number()),
                    read ? "it does not say which sites hold the journal" : read.error().message());
  }
  for (const auto& site : survey.sites) {
    if (!site.answered) problems += fmt::format("\n  site {}: {}", site.name, site.reason);
  }
  return failure(Errc::unavailable, "no checkpoint at the sites can be read:" + problems);
}

}  // namespace

std::string Survey::describe_missing() const {
  std::string text;
  for (const uint32_t id : set.sites()) {
    std::string name = fmt::format("number {}", id);
    for (const auto& info : cloud.sites()) {
      if (info.id() == id) name = info.name();
    }
    // Of a site that does not answer the configuration knows the name alone.
    const auto site = std::find_if(sites.begin(), sites.end(), [&](const auto& one) {
      return one.site == id || (one.site == 0 && one.name == name);
    });
    if (site != sites.end() && site->answered) continue;
    text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", name,
                        site != sites.end() ? site->reason : "it is not configured");
  }
  return text;
}

const FoundRoot* Survey::root_for(uint64_t sequence) const {
  for (const auto& found : roots) {
    if (found.covered <= sequence && found.covered + 1 >= floor) return &found;
  }
  return nullptr;
}

uint64_t Survey::oldest() const {
  uint64_t oldest = end.sequence;
  for (const auto& found : roots) {
    if (found.covered + 1 >= floor) oldest = std::min(oldest, found.covered);
  }
  return oldest;
}

result<Survey> survey_journal(const std::vector<RecoverySource>& sources,
                              const CheckpointPlace& place, std::optional<SiteId> only) {
  Survey survey;
  for (int attempt = 1;; ++attempt) {
    survey.sites = ask_all(sources, place.journal);
    TRY(choose_source(survey, only));
    auto read = read_log(survey, sources[survey.source], place);
    if (read) break;
    // A daemon that leads has trimmed it meanwhile.
    auto again = sources[survey.source].log->head();
    const bool trimmed = again && again.value().floor > survey.floor;
    if (!trimmed || attempt == kSurveyAttempts) {
      return failure(read.error().in("site " + survey.sites[survey.source].name));
    }
  }
  TRY(read_beginning(survey, place));
  survey.rules =
      journal::quorum_rules(survey.set.sites_size(), static_cast<int>(survey.set.losses()));
  survey.answered = 0;
  for (auto& site : survey.sites) {
    site.in_set = std::find(survey.set.sites().begin(), survey.set.sites().end(), site.site) !=
                  survey.set.sites().end();
    if (site.in_set && site.answered) ++survey.answered;
  }
  return survey;
}

}  // namespace datacloud
