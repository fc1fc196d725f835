// Everything the daemon does by itself, and what the administrator asks of it: repair, scrubs,
// audits, folds, the collection of garbage, fsck, sites that join and leave, and their statistics.
//
// Only the daemon that commits does any of it. The service tells what has happened (the events
// below) and answers mounts; requests of the administrator are handed over to the handlers here.
//
// Threads: the loop, besides what jobs do on the background threads. Destruction ends those first;
// the loop must not run anything any more.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "daemon/audit/audit_exports.h"
#include "daemon/audit/auditor.h"
#include "daemon/fold/fold_scheduler.h"
#include "daemon/fold/group_forming.h"
#include "daemon/jobs/background_context.h"
#include "daemon/jobs/site_space.h"
#include "daemon/maintenance/queue_rates.h"
#include "daemon/maintenance/service_dependencies.h"
#include "daemon/maintenance/status_problems.h"
#include "daemon/maintenance/tree_converter.h"
#include "daemon/metadata/committer.h"
#include "daemon/repair/repairer.h"
#include "daemon/repair/site_jobs.h"
#include "daemon/scrub/continuous_scrub.h"
#include "daemon/scrub/garbage_collector.h"
#include "daemon/scrub/garbage_scrub.h"
#include "daemon/scrub/missing_shard_scrub.h"
#include "daemon/scrub/orphan_cleaner.h"
#include "daemon/scrub/stripe_statistics.h"
#include "daemon/sessions/call.h"
#include "daemon/sessions/id_ranges.h"
#include "daemon/sessions/lease_table.h"
#include "daemon/sessions/sessions.h"

namespace datacloud {

class Maintenance {
 public:
  // What it shares with the service that owns it.
  struct Shared {
    Committer& committer;
    Responder& responder;
    const ShardNamer& namer;
    const Sessions& sessions;
    IdRanges& ranges;
    InodeIds& inode_ids;
    const LeaseTable& leases;
  };
  Maintenance(ServiceDependencies&, const Shared&);
  ~Maintenance();

  // Once, within the transaction of the start. Orphans stay until orphans_may_go().
  result<void> open(Transaction&);
  // When that is durable.
  void start();
  // Every second.
  void tick();

  // Events.
  void on_site_change();                      // a site went away or came back
  void orphans_may_go();                      // every session that may hold one is back or over
  void file_removed(InodeId);                 // it has lost its last name
  void file_named(InodeId);                   // it had none, and has one
  void file_released(InodeId);                // nobody holds it any more
  void deletions_added();                     // there are new pending deletions
  void make_garbage_scrub_due(Transaction&);  // ids were revoked that may name objects
  void look_for_garbage();                    // ... durably, or soon
  void moved_by_mount(SiteId, uint64_t bytes, uint64_t operations, Duration span);

  // Runs `work` on a background thread, soon, then `then` on the loop; neither once this ends.
  void in_background(std::function<void()> work, std::function<void()> then);

  // Rules for the service.
  Duration commit_delay() const;  // commits wait for folds that have to catch up
  bool is_leaving(SiteId) const;  // nothing new may name it
  // Answers on the loop.
  void get_space(std::function<void(const SiteSpace::Report&)>);
  SiteSpace& space() { return space_; }
  // Counts of records, and what sites say of themselves, for describe().
  using Counted = std::function<void(const StripeStatistics::Counts&, const SiteSpace::Report&)>;
  void count(SiteSpace::Age, Counted);
  void describe(const StripeStatistics::Counts&, const SiteSpace::Report&, pb::StatusReply&,
                StatusProblems&);
  void describe_details(const StripeStatistics::Counts&, pb::StatusDetails&) const;
  void describe_folds(pb::FoldReply& out) const { fold_scheduler_.describe(out); }

  // Handlers of requests.
  Answer gc(const CallPtr&);
  Answer repair(const CallPtr&);
  Answer site(const CallPtr&);
  Answer audit(const CallPtr&);
  Answer fold(const CallPtr&);
  Answer admin(const CallPtr&, const pb::AdminRequest&);
  // `enabled`: the cloud uses trees, so that there may be new ones.
  Answer tree(const CallPtr&, const pb::TreeRequest&, bool enabled);

  // The conversion of a tree that is running, if one is.
  TreeConverter& trees() { return tree_converter_; }

  void add_site_infos(google::protobuf::RepeatedPtrField<pb::SiteInfo>*) const;

 private:
  // maintenance.cc
  BackgroundContext background_context();
  SiteDuties duties() const;
  std::set<SiteId> away_sites() const;

  // handlers_gc.cc
  void answer_gc_when_idle(const CallPtr&, pb::GcReply before, int tries);
  pb::GcReply gc_counts() const;

  // handlers_repair.cc
  Answer repair_details(const pb::RepairDetailsRequest&);

  // handlers_trees.cc
  result<pb::TreeReply::State> describe_tree(const pb::Tree&) const;
  result<pb::TreeReply> list_trees(uint32_t first) const;
  result<pb::Tree> tree_to_show(const pb::TreeRequest&) const;
  result<pb::Tree> change_tree(const pb::TreeRequest&);

  // handlers_quarantine.cc
  Answer quarantine(const CallPtr&, const pb::QuarantineRequest&);

  // handlers_sites.cc
  Answer site_change(const CallPtr&, const pb::SiteChangeRequest&);
  Answer add_site(const CallPtr&, const pb::SiteChangeRequest&);
  Answer remove_site(const CallPtr&, const std::string& name);
  void finish_removal(const CallPtr&, const std::string& name, pb::SiteDuty before,
                      const result<SiteUse>&);
  result<void> set_duty(const std::string& name, pb::SiteDuty);
  void use_site(const CallPtr&, const pb::SiteInfo&);
  result<void> join(const pb::SiteInfo&, result<ServiceDependencies::Joined>&);

  // handlers_audit.cc
  Answer audit_export(const pb::AuditExportRequest&);
  Answer audit_standing(const pb::AuditStandingRequest&);
  Answer audit_log();

  // handlers_fold.cc
  Answer explain_folds(const pb::FoldExplainRequest&);

  // handlers_background.cc
  Answer background(const pb::BackgroundRequest&);
  void describe_background(pb::BackgroundReply&) const;

  // handlers_fsck.cc
  struct FsckRun;
  Answer fsck(const pb::FsckRequest&);
  Answer start_fsck(const pb::FsckRequest&);
  Answer mend_findings(FsckRun&, const pb::FsckRequest&);
  result<void> mend_records(FsckRun&, const std::vector<uint64_t>& numbers);
  void fsck_sites(const std::shared_ptr<FsckRun>&);
  void stop_fsck();

  // status.cc, status_details.cc
  void add_sites(const StripeStatistics::Counts&, const SiteSpace::Report&, pb::StatusReply&);
  void add_queues(const StripeStatistics::Counts&, pb::StatusDetails&) const;
  void sample_queues();

  ServiceDependencies& deps_;
  MetadataStore& store_;
  EventLoop& loop_;
  Committer& committer_;
  Responder& responder_;
  const ShardNamer& namer_;
  const Sessions& sessions_;
  IdRanges& ranges_;
  InodeIds& inode_ids_;
  ShardTags tags_;
  std::atomic<RepairStrategy> repair_strategy_{RepairStrategy::cheapest};
  OrphanCleaner orphan_cleaner_;
  GarbageCollector collector_;
  GarbageScrub scrub_;
  StripeStatistics stripe_statistics_;
  SiteSpace space_;
  QueueRates queue_rates_;
  MonotonicTime last_gc_{}, last_repair_{};
  std::set<SiteId> leaving_;    // sites about to leave
  bool sessions_back_ = false;  // those from before the start: who holds which lease is known
  TreeConverter tree_converter_;
  // Last: their threads end before anything they use.
  Background background_;
  BackgroundContext background_context_;
  BackgroundIds background_ids_;
  Repairer repairer_;
  MissingShardScrub missing_shard_scrub_;
  ContinuousScrub continuous_scrub_;
  std::shared_ptr<FsckRun> fsck_;  // the latest
  uint64_t fsck_runs_ = 0;
  Auditor auditor_;
  AuditExports audit_exports_;
  FoldScheduler fold_scheduler_;
  GroupFormer former_;
};

}  // namespace datacloud
