// What the sites have of the journal (recovery.h).
#include <fmt/format.h>

#include <algorithm>
#include <future>
#include <iterator>
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

result<FoundRoot> open_root(journal::EntryOpener& opener, const journal::LogEntry& entry) {
  TRY(const Bytes content, opener.open(entry));
  FoundRoot found{.entry = entry.header.sequence};
  if (!found.root.ParseFromArray(content.data(), static_cast<int>(content.size())) ||
      found.root.position().size() != journal::kPositionBytes) {
    return failure(Errc::corrupt, fmt::format("entry {} of the journal is no root of a checkpoint",
                                              entry.header.sequence));
  }
  found.covered = journal::get_position(as_bytes(found.root.position()), 0).sequence;
  return found;
}

// Reads a log from its end backwards, a part at a time: each has several times the entries of what
// was read before, so that a site reads little more than is wanted, in few calls.
class BackwardReading {
 public:
  BackwardReading(Survey& survey, const RecoverySource& source, const CheckpointPlace& place)
      : survey_(survey), source_(source), place_(place), opener_(place.metadata_key) {}

  // Until there is a checkpoint from which `reach` can be reached, or nothing is left.
  result<void> read(uint64_t reach) {
    if (reach == kWholeLog) {
      TRY(read_part(survey_.floor, true));
      for (size_t i = 0; i < survey_.roots.size() && survey_.set.sites_size() == 0; ++i) {
        (void)readable(survey_.roots[i]);
      }
      return success();
    }
    const uint64_t end = survey_.first;
    size_t looked_at = survey_.roots.size();
    for (bool found = false; !found && !survey_.whole();) {
      const uint64_t had = end - survey_.first;
      const uint64_t more = std::max<uint64_t>(kPartEntries, had * (kPartGrowth - 1));
      TRY(read_part(survey_.first - std::min(more, survey_.first - survey_.floor), false));
      for (; looked_at < survey_.roots.size() && !found; ++looked_at) {
        const FoundRoot& root = survey_.roots[looked_at];
        const bool reaches = root.covered <= reach && root.covered + 1 >= survey_.floor;
        found = readable(root) && reaches;
      }
    }
    return success();
  }

  // Why checkpoints cannot be read, one per line.
  const std::string& problems() const { return problems_; }

 private:
  static constexpr uint64_t kPartEntries = 2048, kPartGrowth = 4;

  // The entries in front of those that were read, from `from` on.
  result<void> read_part(uint64_t from, bool seals) {
    const uint64_t until = survey_.first;
    if (from >= until) return success();
    std::vector<FoundRoot> roots;
    TransactionReader transactions(place_.metadata_key);
    std::optional<journal::LogPosition> last;
    std::optional<journal::ChainHash> before;
    bool reached = false;
    auto read = read_entries(
        *source_.log, place_.journal, from, {}, [&](const auto& entry) -> result<void> {
          reached = entry.header.sequence >= until;
          if (reached) return failure(Errc::unavailable, "the part ends here");
          if (!before) before = entry.header.previous;
          last = entry.position();
          survey_.bytes += entry.bytes->size();
          survey_.committed = std::max(survey_.committed, entry.header.committed);
          if (seals) {
            TRY(transactions.add(entry));
          }
          if (entry.header.kind != journal::EntryKind::root) return success();
          TRY(auto found, open_root(opener_, entry));
          roots.push_back(std::move(found));
          return success();
        });
    if (!read && !reached) return read;
    const bool follows =
        last && (!survey_.before || (last->sequence + 1 == until && last->hash == *survey_.before));
    if (!follows) {
      return failure(
          Errc::corrupt,
          fmt::format("entry {} of the journal does not follow the one in front of it", until));
    }
    if (!survey_.before) survey_.end = *last;
    survey_.before = before;
    survey_.first = from;
    std::move(roots.rbegin(), roots.rend(), std::back_inserter(survey_.roots));
    return success();
  }

  // What the records about the cloud say, from the first checkpoint that can be read.
  bool readable(const FoundRoot& found) {
    bool cloud_there = false, set_there = false;
    pb::Cloud cloud;
    pb::JournalSet set;
    Totals totals;
    const auto read = read_checkpoint_start(
        found.root, place_, [&](std::string_view key, std::string_view value) -> result<void> {
          if (key == key::meta("cloud")) {
            cloud_there = cloud.ParseFromArray(value.data(), static_cast<int>(value.size()));
          } else if (key == key::meta(kJournalRecord)) {
            set_there = set.ParseFromArray(value.data(), static_cast<int>(value.size()));
          } else if (key == key::meta("totals")) {
            (void)decode_totals(value, totals);
          }
          return success();
        });
    if (!read || !cloud_there || !set_there || !valid_set(set)) {
      problems_ += fmt::format(
          "\n  checkpoint {}: {}", checkpoint_name(found.root.number()),
          read ? "it does not say which sites hold the journal" : read.error().message());
      return false;
    }
    if (survey_.set.sites_size() == 0) {
      survey_.cloud = std::move(cloud);
      survey_.set = std::move(set);
      survey_.totals = totals;
    }
    return true;
  }

  Survey& survey_;
  const RecoverySource& source_;
  const CheckpointPlace& place_;
  journal::EntryOpener opener_;
  std::string problems_;
};

result<void> no_checkpoint(const Survey& survey, const std::string& problems) {
  if (survey.roots.empty()) {
    return failure(
        Errc::not_found,
        fmt::format("the journal at site {} has entries {} to {} and no checkpoint yet: the "
                    "metadata cannot be rebuilt from it",
                    survey.sites[survey.source].name, survey.floor, survey.end.sequence));
  }
  std::string text = problems;
  for (const auto& site : survey.sites) {
    if (!site.answered) text += fmt::format("\n  site {}: {}", site.name, site.reason);
  }
  return failure(Errc::unavailable, "no checkpoint at the sites can be read:" + text);
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

result<void> survey_further(Survey& survey, const std::vector<RecoverySource>& sources,
                            const CheckpointPlace& place, uint64_t reach) {
  return BackwardReading(survey, sources[survey.source], place).read(reach);
}

result<Survey> survey_journal(const std::vector<RecoverySource>& sources,
                              const CheckpointPlace& place, std::optional<SiteId> only,
                              uint64_t reach) {
  Survey survey;
  std::string problems;
  for (int attempt = 1;; ++attempt) {
    survey = {};
    survey.sites = ask_all(sources, place.journal);
    TRY(choose_source(survey, only));
    const auto& head = survey.sites[survey.source].head;
    survey.floor = head.floor;
    survey.first = head.last.sequence + 1;
    BackwardReading log(survey, sources[survey.source], place);
    const auto read = log.read(reach);
    problems = log.problems();
    if (read) break;
    // A daemon that leads has trimmed it meanwhile.
    auto again = sources[survey.source].log->head();
    const bool trimmed = again && again.value().floor > survey.floor;
    if (!trimmed || attempt == kSurveyAttempts) {
      return failure(read.error().in("site " + survey.sites[survey.source].name));
    }
  }
  if (survey.set.sites_size() == 0) {
    TRY(no_checkpoint(survey, problems));
  }
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
