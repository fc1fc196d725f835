// `datacloud fsck`, also as fsck.datacloud: records against each other, sites against the records;
// with --deep every shard is proven. Exit codes as fsck(8) says.
//
// Some damage hides other damage, so after mending the records are checked again, until nothing is
// found or nothing more can be mended.
#include <fmt/format.h>
#include <unistd.h>

#include <future>
#include <iostream>
#include <map>
#include <set>

#include "daemon/fsck/fsck.h"
#include "daemon/metadata/state_directory.h"
#include "tools/admin_call.h"
#include "tools/exit_codes.h"
#include "tools/json_text.h"
#include "tools/progress.h"
#include "tools/repair_wait.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

constexpr int kRoundsMax = 10;
constexpr size_t kMendsAtOnce = 256;  // the daemon serves others in between

// The records, as the daemon that serves them checks them, or as found in the store.
class FsckTarget {
 public:
  virtual ~FsckTarget() = default;
  virtual result<pb::FsckReply> check(bool sites) = 0;
  virtual result<void> mend(const std::vector<uint64_t>& numbers, pb::FsckReply&) = 0;
};

void show(Progress& progress, const std::string& phase, uint64_t records, uint64_t expected,
          uint64_t objects) {
  progress.show(records, std::max(records, expected),
                fmt::format("{}: {} records, {} objects", phase, records, objects));
}

class OnlineTarget final : public FsckTarget {
 public:
  OnlineTarget(DaemonLink& link, bool quiet) : link_(link), quiet_(quiet) {}

  result<pb::FsckReply> check(bool sites) override {
    pb::AdminRequest request;
    request.mutable_fsck()->set_sites(sites);
    TRY(auto reply, call_admin(link_, request));
    PollPause pause;
    Progress progress(quiet_);
    while (!reply.fsck().done()) {
      pause.sleep();
      pb::AdminRequest again;
      again.mutable_fsck()->set_run(reply.fsck().run());
      TRY(reply, call_admin(link_, again));
      const auto& now = reply.fsck();
      show(progress, now.phase(), now.records_checked(), now.records_total(),
           now.objects_checked());
    }
    return std::move(*reply.mutable_fsck());
  }

  result<void> mend(const std::vector<uint64_t>& numbers, pb::FsckReply& checked) override {
    for (size_t i = 0; i < numbers.size(); i += kMendsAtOnce) {
      pb::AdminRequest request;
      request.mutable_fsck()->set_run(checked.run());
      for (size_t j = i; j < std::min(numbers.size(), i + kMendsAtOnce); ++j) {
        request.mutable_fsck()->add_mend(numbers[j]);
      }
      TRY(auto reply, call_admin(link_, request));
      checked.set_mended_total(reply.fsck().mended_total());
      for (auto& finding : *reply.mutable_fsck()->mutable_findings()) {
        const auto at = static_cast<int>(finding.number()) - 1;
        if (at >= 0 && at < checked.findings_size()) {
          *checked.mutable_findings(at) = std::move(finding);
        }
      }
    }
    return success();
  }

 private:
  DaemonLink& link_;
  const bool quiet_;
};

class OfflineTarget final : public FsckTarget {
 public:
  OfflineTarget(std::unique_ptr<MetadataStore> store, bool quiet)
      : store_(std::move(store)), fsck_(*store_), quiet_(quiet) {}

  result<pb::FsckReply> check(bool) override {
    RecordCheckProgress reached;
    Progress progress(quiet_);
    auto done = std::async(std::launch::async, [&] { return fsck_.check(reached); });
    while (done.wait_for(milliseconds(200)) != std::future_status::ready) {
      show(progress, reached.phase.load(), reached.records, reached.expected, 0);
    }
    return done.get();
  }
  result<void> mend(const std::vector<uint64_t>& numbers, pb::FsckReply& checked) override {
    return fsck_.mend(numbers, checked);
  }

 private:
  std::unique_ptr<MetadataStore> store_;
  LocalFsck fsck_;
  const bool quiet_;
};

result<uint64_t> prove_everything(DaemonLink& link) {
  pb::Request request;
  request.mutable_audit();
  TRY(auto reply, link.call(std::move(request)));
  PollPause pause;
  while (!reply.audit().done()) {
    pause.sleep();
    pb::Request again;
    again.mutable_audit()->set_run(reply.audit().run());
    TRY(reply, link.call(std::move(again)));
  }
  return reply.audit().bad_total();
}

// Sites are looked at in the first round alone.
bool of_site(const pb::FsckReply::Finding& finding) {
  static const std::set<std::string> kinds = {"missing", "damaged", "length", "instance", "orphan"};
  return kinds.count(finding.kind()) > 0;
}

// Everything found in all rounds, each once.
struct Outcome {
  bool online = false;
  uint64_t records = 0, objects = 0;
  std::vector<pb::FsckReply::Finding> findings;
  std::map<std::string, size_t> by_text;
  uint64_t untold = 0;  // found beyond those
  uint64_t blocks_lost = 0;
  std::string failure;
  uint64_t shards_bad = 0;  // by --deep
  uint64_t shards_repaired = 0, stripes_left = 0;

  uint64_t found() const { return findings.size() + untold; }
  uint64_t mended() const {
    uint64_t count = 0;
    for (const auto& finding : findings) count += finding.mended();
    return count;
  }
  // A check after mending: what it does not tell any more went with something else.
  void settle(const pb::FsckReply& later) {
    std::set<std::string> still;
    for (const auto& finding : later.findings()) still.insert(finding.text());
    for (auto& finding : findings) {
      if (finding.mended() || of_site(finding) || still.count(finding.text()) > 0) continue;
      finding.set_mended(true);
      finding.set_action("it was mended together with another finding");
      finding.clear_obstacle();
    }
  }
  void add(const pb::FsckReply& reply) {
    records += reply.records_checked();
    objects += reply.objects_checked();
    blocks_lost = reply.blocks_lost();
    if (!reply.failure().empty()) failure = reply.failure();
    untold = std::max<uint64_t>(untold, reply.findings_total() - reply.findings_size());
    for (const auto& finding : reply.findings()) {
      const auto [it, added] = by_text.emplace(finding.text(), findings.size());
      if (added) {
        findings.push_back(finding);
      } else {
        findings[it->second] = finding;
      }
    }
  }
};

std::string line_of(const pb::FsckReply::Finding& finding) {
  std::string out = fmt::format("{}: {}", finding.kind(), printable(finding.text()));
  if (finding.action().empty()) return out + ": fsck cannot mend this";
  if (finding.mended()) return out + ": mended: " + printable(finding.action());
  if (!finding.obstacle().empty()) return out + ": not mended: " + printable(finding.obstacle());
  return out + ": would be mended: " + printable(finding.action());
}

// Asks about each finding that can be mended; "a" is yes to this and all that follow.
class Consent {
 public:
  explicit Consent(const FsckOptions& options)
      : all_(options.yes), never_(options.no || (!options.yes && !::isatty(STDIN_FILENO))) {}

  // Asked once about each: what could not be mended at first is tried again as answered.
  bool to(const pb::FsckReply::Finding& finding) {
    if (never_ || finding.action().empty()) return false;
    if (all_) return true;
    const auto [answer, first] = answers_.emplace(finding.text(), false);
    if (first) answer->second = ask(finding);
    return answer->second;
  }

 private:
  bool ask(const pb::FsckReply::Finding& finding) {
    fmt::print("{}: {}\n  to mend it: {}. Do it? [y/N/a] ", finding.kind(),
               printable(finding.text()), printable(finding.action()));
    fflush(stdout);
    std::string answer;
    if (!std::getline(std::cin, answer)) never_ = true;
    all_ = answer == "a" || answer == "all";
    return all_ || answer == "y" || answer == "yes";
  }

  bool all_, never_;
  std::map<std::string, bool> answers_;  // by text
};

result<void> run_rounds(FsckTarget& target, Consent& consent, Outcome& outcome) {
  for (int round = 0; round < kRoundsMax; ++round) {
    TRY(auto reply, target.check(round == 0));
    if (round > 0 && reply.failure().empty() &&
        reply.findings_total() == static_cast<uint64_t>(reply.findings_size())) {
      outcome.settle(reply);
    }
    std::vector<uint64_t> chosen;
    for (const auto& finding : reply.findings()) {
      if (consent.to(finding)) chosen.push_back(finding.number());
    }
    if (!chosen.empty()) {
      TRY(target.mend(chosen, reply));
    }
    outcome.add(reply);
    if (reply.mended_total() == 0) return success();
  }
  return success();
}

result<std::unique_ptr<MetadataStore>> open_store(const Config& config) {
  MetadataStore::Options options;
  options.directory = metadata_directory(config.daemon).string();
  return MetadataStore::open(std::move(options));
}

result<Outcome> check(const CommandContext& context, const FsckOptions& options) {
  TRY(const auto config, load_config(context.config));
  Outcome outcome;
  Consent consent(options);
  auto link = connect_to_daemon(context, std::chrono::hours(1));
  if (!link) {
    if (!link.error().is(Errc::unavailable)) return failure(link.error());
    if (options.deep) {
      return failure(Errc::unavailable, "--deep needs the daemon: start datacloudd");
    }
    TRY(auto store, open_store(config));
    OfflineTarget target(std::move(store), context.json);
    TRY(run_rounds(target, consent, outcome));
    return outcome;
  }
  outcome.online = true;
  OnlineTarget target(link.value(), context.json);
  TRY(run_rounds(target, consent, outcome));
  if (options.deep) {
    TRY(outcome.shards_bad, prove_everything(link.value()));
  }
  if (!options.no && (outcome.mended() > 0 || outcome.shards_bad > 0)) {
    TRY(const auto done, wait_for_repairs(link.value(), 0, context.json));
    outcome.shards_repaired = done.lines.size();
    outcome.stripes_left = done.last.queued();
  }
  return outcome;
}

int exit_code(const Outcome& outcome, const FsckOptions& options) {
  if (!outcome.failure.empty()) return kFsckOperational;
  if (outcome.found() + outcome.shards_bad == 0) return kFsckClean;
  const bool left = options.no || outcome.mended() < outcome.found() || outcome.stripes_left > 0;
  return left ? kFsckLeft : kFsckCorrected;
}

void tell(const CommandContext& context, const Outcome& outcome, int code) {
  if (context.json) {
    Json findings = Json::array();
    for (const auto& finding : outcome.findings) {
      findings.push_back({{"kind", finding.kind()},
                          {"text", finding.text()},
                          {"action", finding.action()},
                          {"mended", finding.mended()},
                          {"obstacle", finding.obstacle()}});
    }
    fmt::print("{}", json_text({{"online", outcome.online},
                                {"records_checked", outcome.records},
                                {"objects_checked", outcome.objects},
                                {"findings_total", outcome.found()},
                                {"mended_total", outcome.mended()},
                                {"shards_bad", outcome.shards_bad},
                                {"shards_repaired", outcome.shards_repaired},
                                {"stripes_left", outcome.stripes_left},
                                {"blocks_lost", outcome.blocks_lost},
                                {"failure", outcome.failure},
                                {"findings", std::move(findings)},
                                {"exit_code", code}}));
    return;
  }
  for (const auto& finding : outcome.findings) fmt::print("{}\n", line_of(finding));
  if (outcome.untold > 0) fmt::print("and {} more\n", outcome.untold);
  if (outcome.shards_bad > 0) {
    fmt::print("{} shards differ from what was written\n", outcome.shards_bad);
  }
  if (!outcome.failure.empty()) fmt::print("{}\n", printable(outcome.failure));
  if (outcome.blocks_lost > 0) {
    fmt::print(
        "the data of {} blocks are lost; `datacloud locate FILE` shows which files have such "
        "blocks\n",
        outcome.blocks_lost);
  }
  fmt::print("{} records and {} objects read {}: {} findings, {} mended{}\n", outcome.records,
             outcome.objects,
             outcome.online ? "while the daemon serves" : "without a daemon (no site was checked)",
             outcome.found() + outcome.shards_bad, outcome.mended(),
             outcome.stripes_left > 0
                 ? fmt::format(", {} stripes wait for their sites", outcome.stripes_left)
                 : std::string());
}

}  // namespace

int run_fsck(const CommandContext& context, const FsckOptions& options) {
  const auto outcome = check(context, options);
  if (!outcome) {
    (void)report_failure(outcome.error());
    return kFsckOperational;
  }
  const int code = exit_code(outcome.value(), options);
  tell(context, outcome.value(), code);
  return code;
}

}  // namespace datacloud
