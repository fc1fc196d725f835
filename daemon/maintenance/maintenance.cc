// What there is, how it starts, and what it is told.
#include "daemon/maintenance/maintenance.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "daemon/metadata/state_directory.h"

namespace datacloud {
namespace {

constexpr auto kRepairInterval = seconds(1);
constexpr int kPiecesPerTick = 4;  // of the reserve for a full disk; a few milliseconds each

Background::Limits background_limits(const DaemonConfig& config) {
  Background::Limits limits;
  limits.threads = static_cast<int>(config.background_threads);
  limits.site_bytes_per_second_max = config.background_site_bytes_per_second_max;
  limits.site_operations_per_second_max = config.background_site_operations_per_second_max;
  // Checked when the configuration was read.
  if (auto windows = TimeWindows::parse(config.background_windows)) {
    limits.windows = std::move(windows).value();
  }
  limits.outside_bytes_per_second_max = config.background_outside_bytes_per_second_max;
  return limits;
}

}  // namespace

Maintenance::Maintenance(ServiceDependencies& deps, const Shared& shared)
    : deps_(deps),
      store_(deps_.store),
      loop_(*deps_.loop),
      committer_(shared.committer),
      responder_(shared.responder),
      namer_(shared.namer),
      sessions_(shared.sessions),
      ranges_(shared.ranges),
      inode_ids_(shared.inode_ids),
      tags_(deps_.audit_keys),
      orphan_cleaner_(store_, committer_, deps_.loop,
                      {[&leases = shared.leases](InodeId ino) { return leases.is_held(ino); },
                       [this] { collector_.kick(); }}),
      collector_(store_, committer_, deps_.sites, namer_, deps_.loop),
      scrub_(store_, committer_, deps_.sites, namer_, ranges_, deps_.loop),
      stripe_statistics_(store_, deps_.loop, [this] { return away_sites(); }),
      space_(deps_.sites, deps_.loop, deps_.code),
      tree_converter_(store_, committer_, deps_.loop, background_,
                      {[this] { return !deps_.space || !deps_.space->refusal(); }}),
      background_(deps_.loop, background_limits(deps_.config)),
      background_context_(background_context()),
      background_ids_(background_context_),
      repairer_(background_context_, background_ids_, deps_.loop,
                static_cast<int>(deps_.config.background_threads)),
      missing_shard_scrub_(background_context_, scrub_directory(deps_.config)),
      continuous_scrub_(background_context_, ranges_, deps_.loop,
                        {.cycle = milliseconds(deps_.config.scrub_cycle_ms),
                         .directory = scrub_directory(deps_.config)},
                        [this] { repairer_.kick(); }),
      auditor_(background_context_, deps_.loop, milliseconds(deps_.config.audit_cycle_ms),
               static_cast<int>(deps_.config.background_threads), [this] { repairer_.kick(); }),
      audit_exports_(store_, namer_, deps_.cloud, deps_.audit_keys, deps_.audit_signer),
      fold_scheduler_(
          background_context_, background_ids_, deps_.loop,
          {.jobs_max = std::max(1, static_cast<int>(deps_.config.background_threads) / 2),
           .automatic = deps_.config.fold == "auto",
           .age = milliseconds(deps_.config.fold_age_ms),
           .heat_max = milliseconds(deps_.config.fold_heat_ms),
           .blocked_max = milliseconds(deps_.config.fold_blocked_ms),
           .backlog_bytes_max = deps_.config.fold_backlog_bytes_max,
           .is_owned =
               [this, &leases = shared.leases](InodeId ino) {
                 return !sessions_back_ || !leases.admits(kDaemonSession, ino, pb::LEASE_READ);
               }}),
      former_(background_context_, background_ids_, deps_.loop) {}

Maintenance::~Maintenance() {
  stop_fsck();
  tree_converter_.stop();
  background_.stop();
}

SiteDuties Maintenance::duties() const {
  SiteDuties duties;
  for (const auto& info : deps_.cloud.sites()) {
    if (info.duty() != pb::SITE_ACTIVE) duties[info.id()] = info.duty();
  }
  return duties;
}

void Maintenance::add_site_infos(google::protobuf::RepeatedPtrField<pb::SiteInfo>* out) const {
  for (const auto& info : deps_.cloud.sites()) *out->Add() = info;
}

BackgroundContext Maintenance::background_context() {
  Site* local = deps_.config.site.empty() ? nullptr : deps_.sites.find(deps_.config.site);
  return {
      .threads = background_,
      .store = store_,
      .committer = committer_,
      .sites = deps_.sites,
      .namer = namer_,
      .tags = tags_,
      .local_site = local != nullptr ? local->id() : 0,
      .duties = [this] { return duties(); },
      .grant = [this](Transaction& txn, IdKind kind,
                      uint32_t count) { return ranges_.grant(txn, kDaemonSession, kind, count); },
      .revoke = [this](Transaction& txn, IdKind kind,
                       uint64_t id) { ranges_.revoke(txn, kDaemonSession, kind, id); },
      .collect = [this] { collector_.kick(); },
      .combining = [this] { return space_.combining(); },
      .repair_strategy = [this] { return repair_strategy_.load(); },
  };
}

std::set<SiteId> Maintenance::away_sites() const {
  std::set<SiteId> away;
  for (const Site* site : deps_.sites.all()) {
    if (!site->up()) away.insert(site->id());
  }
  return away;
}

result<void> Maintenance::open(Transaction& txn) {
  TRY(scrub_.open(txn));
  orphan_cleaner_.pause(true);
  TRY(orphan_cleaner_.open(txn));
  TRY(tree_converter_.open(txn));
  TRY(repairer_.open(txn));
  TRY(auditor_.open(txn));
  std::error_code error;
  std::filesystem::create_directories(scrub_directory(deps_.config), error);
  if (error) {
    return failure(Errc::io, fmt::format("cannot make {}: {}",
                                         scrub_directory(deps_.config).string(), error.message()));
  }
  TRY(continuous_scrub_.open(txn));
  fold_scheduler_.start();
  if (deps_.config.fold == "auto") former_.start();
  return success();
}

void Maintenance::start() {
  tree_converter_.start();
  collector_.kick();
  scrub_.kick();
  repairer_.kick();
}

void Maintenance::tick() {
  const auto interval = milliseconds(std::max(deps_.config.gc_interval_ms, 100u));
  if (loop_.now() - last_gc_ >= interval) {
    last_gc_ = loop_.now();
    collector_.retry();
    scrub_.kick();
  }
  if (loop_.now() - last_repair_ >= kRepairInterval) {
    last_repair_ = loop_.now();
    repairer_.kick();
  }
  sample_queues();
  if (deps_.space) {
    const bool full = deps_.space->refusal().has_value();
    background_.hold(full);
    for (int i = 0; i < kPiecesPerTick && !full && deps_.space->replenish(); ++i) {
    }
  }
}

void Maintenance::on_site_change() {
  collector_.restart();
  scrub_.kick();
  space_.get([](const SiteSpace::Report&) {}, SiteSpace::Age::now);  // who can combine
  repairer_.restart();
}

void Maintenance::orphans_may_go() {
  sessions_back_ = true;
  orphan_cleaner_.pause(false);
}
void Maintenance::file_removed(InodeId ino) { orphan_cleaner_.add(ino); }
void Maintenance::file_named(InodeId ino) { orphan_cleaner_.named(ino); }
void Maintenance::file_released(InodeId ino) { orphan_cleaner_.released(ino); }
void Maintenance::deletions_added() { collector_.kick(); }
void Maintenance::make_garbage_scrub_due(Transaction& txn) { scrub_.make_due(txn); }
void Maintenance::look_for_garbage() { scrub_.kick(); }

void Maintenance::moved_by_mount(SiteId site, uint64_t bytes, uint64_t operations, Duration span) {
  background_.foreground(site, bytes, operations, span);
}

Duration Maintenance::commit_delay() const { return fold_scheduler_.commit_delay(); }
bool Maintenance::is_leaving(SiteId site) const { return leaving_.contains(site); }

void Maintenance::get_space(std::function<void(const SiteSpace::Report&)> done) {
  space_.get(std::move(done));
}

Answer Maintenance::admin(const CallPtr& call, const pb::AdminRequest& request) {
  switch (request.op_case()) {
    case pb::AdminRequest::kBackground:
      return background(request.background());
    case pb::AdminRequest::kFsck:
      return fsck(request.fsck());
    case pb::AdminRequest::kAuditExport:
      return audit_export(request.audit_export());
    case pb::AdminRequest::kAuditStanding:
      return audit_standing(request.audit_standing());
    case pb::AdminRequest::kAuditLog:
      return audit_log();
    case pb::AdminRequest::kFoldExplain:
      return explain_folds(request.fold_explain());
    case pb::AdminRequest::kSiteChange:
      return site_change(call, request.site_change());
    case pb::AdminRequest::kRepairDetails:
      return repair_details(request.repair_details());
    case pb::AdminRequest::kQuarantine:
      return quarantine(call, request.quarantine());
    default:
      return failure(Errc::unsupported,
                     "the daemon does not know this request; install the same version on both "
                     "sides");
  }
}

void Maintenance::in_background(std::function<void()> work, std::function<void()> then) {
  background_.submit_prompt([this, work = std::move(work), then = std::move(then)] {
    work();
    (void)background_.on_loop<void>([&then]() -> result<void> {
      then();
      return success();
    });
  });
}

}  // namespace datacloud
