// fsck through the daemon: a snapshot of the records, then the sites, on a background thread while
// requests are served. Findings are mended when the administrator says so, a few per request, and
// records only if nothing has been mounted since they were read.
#include <fmt/format.h>

#include "common/base/log.h"
#include "daemon/fsck/fsck.h"
#include "daemon/fsck/site_check.h"
#include "daemon/maintenance/maintenance.h"
#include "daemon/records/block_map.h"

namespace datacloud {
namespace {

constexpr size_t kSiteFindingsMax = 10'000;
constexpr int kMendsPerRequestMax = 256;

std::optional<pb::Reply> fsck_reply(const pb::FsckReply& fsck) {
  pb::AdminReply admin;
  *admin.mutable_fsck() = fsck;
  pb::Reply reply;
  reply.set_admin(admin.SerializeAsString());
  return reply;
}

}  // namespace

// On the loop, besides what is atomic, and `view` and `report` which the job has while it runs.
struct Maintenance::FsckRun {
  pb::FsckReply reply;
  std::unique_ptr<RecordSnapshot> view;
  RecordCheckReport report;
  RecordCheckProgress progress;
  SiteCheckProgress sites_progress;
  std::vector<SiteFinding> at_sites;  // numbered behind the records' findings
  bool mounted = false;
  uint64_t hellos = 0;  // hellos when the snapshot was taken

  void tell(SiteFinding finding) {
    reply.set_findings_total(reply.findings_total() + 1);
    if (at_sites.size() >= kSiteFindingsMax) return;
    auto* out = reply.add_findings();
    out->set_number(static_cast<uint64_t>(reply.findings_size()));
    out->set_kind(finding.kind);
    out->set_text(finding.text);
    out->set_action(finding.damage ? "it is rebuilt from the others"
                                   : "the collector deletes it if it is garbage of this cloud");
    at_sites.push_back(std::move(finding));
  }
};

Answer Maintenance::fsck(const pb::FsckRequest& request) {
  if (request.run() == 0) return start_fsck(request);
  if (!fsck_ || fsck_->reply.run() != request.run()) {
    return failure(Errc::not_found, fmt::format("there is no fsck number {}", request.run()));
  }
  FsckRun& run = *fsck_;
  if (request.mend_size() > 0) return mend_findings(run, request);
  run.reply.set_records_checked(run.progress.records);
  run.reply.set_records_total(std::max(run.progress.expected.load(), run.progress.records.load()));
  run.reply.set_objects_checked(run.sites_progress.objects);
  if (!run.reply.done()) {  // findings are told at the end, once
    pb::FsckReply so_far = run.reply;
    so_far.clear_findings();
    if (run.view) so_far.set_phase(run.progress.phase);
    return fsck_reply(so_far);
  }
  const auto reply = fsck_reply(run.reply);
  if (request.done()) fsck_.reset();
  return reply;
}

Answer Maintenance::start_fsck(const pb::FsckRequest& request) {
  if (fsck_ && !fsck_->reply.done()) {
    return failure(Errc::unavailable, "another fsck is running; wait for it to end");
  }
  auto run = std::make_shared<FsckRun>();
  run->reply.set_run(++fsck_runs_);
  run->view = store_.snapshot();
  run->mounted = sessions_.mounts() > 0;
  run->hellos = sessions_.hellos();
  fsck_ = run;
  background_.submit_prompt([this, run, sites = request.sites()] {
    auto report = check_records(*run->view, {}, run->progress);
    (void)background_.on_loop<void>([&]() -> result<void> {
      run->view.reset();
      if (!report) {
        run->reply.set_failure(report.error().message());
        run->reply.set_done(true);
        return success();
      }
      run->report = std::move(report).value();
      tell_findings(run->report, run->reply);
      if (!sites) run->reply.set_done(true);
      return success();
    });
    if (sites && report) fsck_sites(run);
  });
  return fsck_reply(run->reply);
}

// On the background thread.
void Maintenance::fsck_sites(const std::shared_ptr<FsckRun>& run) {
  const auto maybe_wanted = [this](InstanceId instance) {
    return instance == 0 || instance >= ranges_.high_water(IdKind::instance) ||
           ranges_.live(IdKind::instance, instance);
  };
  for (Site* site : deps_.sites.all()) {
    if (!site->up()) continue;
    auto found =
        check_site(background_context_, *site, kSiteFindingsMax, maybe_wanted, run->sites_progress);
    (void)background_.on_loop<void>([&]() -> result<void> {
      run->reply.set_phase("site " + site->name());
      if (!found) {
        run->reply.set_failure(
            fmt::format("site {} could not be checked: {}", site->name(), found.error().message()));
        return success();
      }
      for (auto& finding : found.value()) run->tell(std::move(finding));
      return success();
    });
  }
  (void)background_.on_loop<void>([this, run]() -> result<void> {
    const auto told = [this, run](const std::vector<pb::Damage>& found) {
      for (const auto& damage : found) {
        Site* site = deps_.sites.find(damage.site());
        run->tell({"missing",
                   fmt::format("stripe {} column {} is missing at site {}", damage.stripe(),
                               damage.column(), site != nullptr ? site->name() : "?"),
                   damage});
      }
    };
    run->reply.set_phase("missing shards");
    if (!missing_shard_scrub_.look_only([run] { run->reply.set_done(true); }, told)) {
      run->reply.set_failure("another search of the sites is running; try again");
      run->reply.set_done(true);
    }
    return success();
  });
}

void Maintenance::stop_fsck() {
  if (fsck_) fsck_->progress.stop = true;
}

Answer Maintenance::mend_findings(FsckRun& run, const pb::FsckRequest& request) {
  if (!run.reply.done() || request.mend_size() > kMendsPerRequestMax) {
    return failure(Errc::invalid, fmt::format("a check is mended when it is done, {} findings at "
                                              "a time",
                                              kMendsPerRequestMax));
  }
  std::vector<uint64_t> of_records;
  bool orphans = false, shards = false;
  Transaction txn = store_.begin();
  for (const uint64_t number : request.mend()) {
    if (number == 0 || number > static_cast<uint64_t>(run.reply.findings_size())) continue;
    if (number <= run.report.findings.size()) {
      of_records.push_back(number);
      continue;
    }
    const auto& finding = run.at_sites[number - run.report.findings.size() - 1];
    auto* told = run.reply.mutable_findings(static_cast<int>(number) - 1);
    if (told->mended()) continue;
    if (finding.damage) {
      TRY(record_damage(txn, *finding.damage));
      shards = true;
    } else if (run.report.lost_stripes) {
      told->set_obstacle("records of stripes are lost: it may be one of theirs, and stays");
      continue;
    } else {
      orphans = true;
    }
    told->set_mended(true);
    run.reply.set_mended_total(run.reply.mended_total() + 1);
  }
  if (orphans) scrub_.make_due(txn);
  if (!txn.empty()) {
    TRY(committer_.apply(std::move(txn)));
  }
  if (shards) repairer_.kick();
  if (orphans) scrub_.kick();
  TRY(mend_records(run, of_records));
  pb::FsckReply reply;  // of these alone
  reply.set_run(run.reply.run());
  reply.set_done(true);
  reply.set_mended_total(run.reply.mended_total());
  for (const uint64_t number : request.mend()) {
    if (number == 0 || number > static_cast<uint64_t>(run.reply.findings_size())) continue;
    *reply.add_findings() = run.reply.findings(static_cast<int>(number) - 1);
  }
  return fsck_reply(reply);
}

result<void> Maintenance::mend_records(FsckRun& run, const std::vector<uint64_t>& numbers) {
  if (numbers.empty()) return success();
  if (run.mounted || sessions_.mounts() > 0 || sessions_.hellos() != run.hellos) {
    for (const uint64_t number : numbers) {
      run.reply.mutable_findings(static_cast<int>(number) - 1)
          ->set_obstacle(
              "records are mended only while nothing is mounted: unmount, run fsck again");
    }
    return success();
  }
  bool new_ino = false;
  MendHooks hooks;
  hooks.online = true;
  hooks.new_ino = [&](Transaction& txn) {
    new_ino = true;
    return inode_ids_.peek(txn);
  };
  hooks.commit = [&](Transaction&& txn) -> result<void> {
    TRY(committer_.apply(std::move(txn)));
    if (std::exchange(new_ino, false)) inode_ids_.take();
    return success();
  };
  return datacloud::mend_findings(store_, run.report.findings, numbers, hooks, run.reply);
}

}  // namespace datacloud
