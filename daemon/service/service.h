// The metadata service: what datacloudd answers to mounts and to the tool.
//
// Everything runs on one thread (EventLoop); nothing here blocks. A request becomes a Call, is
// dispatched to one handler, and is answered exactly once: at once, or later by a continuation (a
// recall was answered, a transaction became durable, a site has spoken). Handlers that must wait
// for leases queue the whole call and are run again from the start.
//
// Rules: docs/protocol.md. What the mounts rely on: a reply to a changing request is stored in the
// transaction that made the change; grants, new sessions, revocations and durable commits are
// answered after they survive a power cut; requests a mount needs to answer a recall are never
// queued.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>

#include "common/codes/erasure_code.h"
#include "common/config/config.h"
#include "common/rpc/rpc.h"
#include "common/site/site_set.h"
#include "daemon/audit/audit_exports.h"
#include "daemon/audit/auditor.h"
#include "daemon/fold/fold_scheduler.h"
#include "daemon/fold/group_forming.h"
#include "daemon/jobs/background_context.h"
#include "daemon/jobs/site_space.h"
#include "daemon/loop/event_loop.h"
#include "daemon/metadata/committer.h"
#include "daemon/metadata/metadata_store.h"
#include "daemon/repair/repairer.h"
#include "daemon/repair/site_jobs.h"
#include "daemon/scrub/continuous_scrub.h"
#include "daemon/scrub/garbage_collector.h"
#include "daemon/scrub/garbage_scrub.h"
#include "daemon/scrub/missing_shard_scrub.h"
#include "daemon/scrub/orphan_cleaner.h"
#include "daemon/scrub/stripe_statistics.h"
#include "daemon/service/queue_rates.h"
#include "daemon/sessions/id_ranges.h"
#include "daemon/sessions/lease_table.h"
#include "daemon/sessions/process_probe.h"
#include "daemon/sessions/sessions.h"

namespace datacloud {

namespace pb {
class AuditExportRequest;
class AuditStandingRequest;
class BackgroundReply;
class BackgroundRequest;
class FsckReply;
class FsckRequest;
class QuarantineRequest;
class FoldExplainRequest;
class PolicyRequest;
class RepairDetailsRequest;
class SiteChangeRequest;
class StatusDetails;
}  // namespace pb

class MetadataService final : public RpcService {
 public:
  struct Dependencies {
    MetadataStore& store;
    SiteSet& sites;
    std::shared_ptr<EventLoop> loop;
    ProcessProbe& processes;
    pb::Cloud cloud;
    DaemonConfig config;
    Bytes name_key;
    std::shared_ptr<const ErasureCode> code;            // of the root directory
    std::map<std::string, std::string> site_locations;  // by site name, for people
    std::map<SiteId, SecretKey> audit_keys;
    std::shared_ptr<const SigningKey> audit_signer;  // null: no bundles for third parties
    // A site that joins, as the configuration says now; from a background thread. Empty: sites are
    // used from the next start on.
    struct Joined {
      std::unique_ptr<ObjectStore> store;
      SecretKey audit_key;
      std::string location;
    };
    std::function<result<Joined>(const pb::SiteInfo&)> open_site = {};
    // The metadata store has failed: nothing more can be promised. Stops the daemon.
    std::function<void(const Error&)> fatal;
  };
  explicit MetadataService(Dependencies);
  ~MetadataService() override;

  // Before the first request: a new start is counted and earlier grants are revoked, durably.
  // Blocks.
  result<void> start();
  uint64_t start_count() const { return start_count_; }

  void on_request(std::shared_ptr<RpcConnection>, pb::Request) override;
  void on_disconnect(std::shared_ptr<RpcConnection>) override;
  // What status, traffic and fold would answer now, for metrics. On the service's thread; so is
  // `done`.
  void snapshot(
      std::function<void(const pb::StatusReply&, const pb::TrafficReply&, const pb::FoldReply&)>
          done);
  // A site went away or came back.
  void on_site_change();

  struct Operation;

 private:
  struct Call {
    std::shared_ptr<RpcConnection> connection;  // where it arrived
    SessionId session = 0;
    pb::Request request;
    const Operation* operation = nullptr;  // null: hello, or not known
    InodeId admitted = 0;                  // the inode whose leases it has waited for
  };
  using CallPtr = std::shared_ptr<Call>;
  // nullopt: the call is answered later.
  using Answer = result<std::optional<pb::Reply>>;
  static Answer later() { return std::optional<pb::Reply>(); }

 public:
  // What the service does with one kind of request. Hello is not among them: it makes the session
  // that all others need.
  struct Operation {
    pb::Request::OpCase request;
    Answer (*handler)(MetadataService&, const CallPtr&);
    // It looks at or changes what leases protect: it may wait for recalls, and after a start for
    // the sessions of earlier mounts. All others are served at once, always: mounts need some of
    // them to answer recalls.
    bool may_wait;
    bool for_tools;  // tools hold no leases, and change no file
    bool changes;    // may apply a transaction: it is answered when that is committed
  };
  static std::span<const Operation> operations();

 private:
  // request_table.cc
  static const Operation* find_operation(pb::Request::OpCase);
  template <auto handler>
  static Answer run(MetadataService&, const CallPtr&);

  // service.cc: from request to reply
  void dispatch(const CallPtr&);
  bool answer_from_store(const CallPtr&, SessionState&);
  void refresh_stored(const Call&, pb::Reply&);
  void answer(const CallPtr&, pb::Reply);
  void send(const Call&, const pb::Reply&);
  void answer_when_durable(const CallPtr&, pb::Reply);
  void refuse(const CallPtr&, const Error&);
  void pump();
  void send_recall(const LeaseTable::Recall&);
  // Waits (false) until no other session holds more than `others` on the inode.
  bool admitted(const CallPtr&, InodeId, pb::LeaseMode others);
  // Applies the transaction with the reply stored under the call's id.
  result<void> commit(Transaction&&, const Call&, pb::Reply&);
  // Answers once every holder counted in `notice` has heard of the change.
  Answer after_notice(const CallPtr&, const LeaseTable::NoticePtr&, pb::Reply);
  SessionState& session_of(const Call& call) { return *sessions_.find(call.session); }

  // service_sessions.cc: sessions and their ends
  void hello(const CallPtr&);
  bool resume(SessionState&, const Call&);
  pb::Reply hello_reply(const Call&, SessionState&, bool resumed);
  void bind(SessionState&, const std::shared_ptr<RpcConnection>&);
  Answer keepalive(const CallPtr&);
  Answer goodbye(const CallPtr&);
  Answer grant(const CallPtr&);
  void end_session(SessionId, const std::string& why, bool clean);
  void end_if_over(SessionId);
  void tick();
  bool in_grace(const Call&) const;
  void run_held_back();
  void renew(SessionState&);

  // handlers_leases.cc
  Answer lease(const CallPtr&);
  Answer release(const CallPtr&);
  Answer recall_done(const CallPtr&);

  // handlers_namespace.cc
  Answer lookup(const CallPtr&);
  Answer setattr(const CallPtr&);
  Answer create(const CallPtr&);
  Answer link(const CallPtr&);
  Answer unlink(const CallPtr&);
  Answer rename(const CallPtr&);
  Answer readdir(const CallPtr&);
  Answer getxattr(const CallPtr&);
  Answer setxattr(const CallPtr&);
  Answer listxattr(const CallPtr&);
  Answer removexattr(const CallPtr&);
  Answer statfs(const CallPtr&);
  void notice_removed(SessionId author, const pb::Inode&, LeaseTable::NoticePtr&);

  // handlers_data.cc
  Answer map(const CallPtr&);
  Answer commit_data(const CallPtr&);
  result<void> check_commit(const pb::CommitRequest&, SessionId) const;
  result<void> check_stripe(const pb::Stripe&, SessionId) const;
  result<void> add_rows(Transaction&, const pb::CommitRequest&, SessionId) const;
  Answer abandon(const CallPtr&);
  Answer damage(const CallPtr&);
  Answer sync(const CallPtr&);

  // handlers_status.cc
  Answer status(const CallPtr&);
  pb::Reply status_reply(const StripeStatistics::Counts&, const SiteSpace::Report&);
  void add_sites(const StripeStatistics::Counts&, const SiteSpace::Report&, pb::StatusReply&);
  void add_mounts(pb::StatusReply&);

  // handlers_admin.cc
  Answer locate(const CallPtr&);
  Answer traffic(const CallPtr&);
  void add_traffic(pb::TrafficReply&);
  Answer gc(const CallPtr&);
  void answer_gc_when_idle(const CallPtr&, pb::GcReply before, int tries);
  pb::GcReply gc_counts() const;

  // handlers_repair.cc
  Answer repair(const CallPtr&);
  Answer site(const CallPtr&);
  Answer repair_details(const pb::RepairDetailsRequest&);

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
  result<void> join(const pb::SiteInfo&, result<Dependencies::Joined>&);
  Answer site_key(const CallPtr&, SiteId);

  // handlers_audit.cc
  Answer audit(const CallPtr&);
  Answer audit_export(const pb::AuditExportRequest&);
  Answer audit_standing(const pb::AuditStandingRequest&);
  Answer locate_part(const pb::LocatePartRequest&);
  result<pb::LocatePartReply> locate_from(const std::string& path, InodeId, uint64_t first) const;
  Answer audit_log();

  // handlers_fold.cc
  Answer fold(const CallPtr&);
  Answer explain_folds(const pb::FoldExplainRequest&);

  // handlers_policy.cc
  Answer admin(const CallPtr&);
  Answer policy(const CallPtr&, const pb::PolicyRequest&);
  Answer background(const pb::BackgroundRequest&);
  void describe_background(pb::BackgroundReply&) const;

  // handlers_fsck.cc
  struct FsckRun;
  Answer fsck(const pb::FsckRequest&);
  Answer start_fsck(const pb::FsckRequest&);
  Answer mend_findings(FsckRun&, const pb::FsckRequest&);
  result<void> mend_records(FsckRun&, const std::vector<uint64_t>& numbers);
  void fsck_sites(const std::shared_ptr<FsckRun>&);
  bool mounted() const;
  void stop_fsck();

  // handlers_details.cc
  void sample_queues();
  void add_queues(const StripeStatistics::Counts&, pb::StatusDetails&) const;
  void add_activity(pb::StatusDetails&) const;
  std::string status_details(const StripeStatistics::Counts&) const;
  std::set<SiteId> away_sites() const;
  BackgroundContext background_context();
  SiteDuties duties() const;
  void add_site_infos(google::protobuf::RepeatedPtrField<pb::SiteInfo>*) const;

  Dependencies deps_;
  MetadataStore& store_;
  EventLoop& loop_;
  LocalCommitter committer_;
  const ShardNamer namer_;
  ShardTags tags_;
  std::atomic<RepairStrategy> repair_strategy_{RepairStrategy::cheapest};
  const MonotonicTime started_;
  uint64_t start_count_ = 0;
  size_t sessions_at_start_ = 0;
  Sessions sessions_;
  IdRanges ranges_;
  InodeIds inode_ids_;
  LeaseTable leases_;
  OrphanCleaner orphan_cleaner_;
  GarbageCollector collector_;
  GarbageScrub scrub_;
  StripeStatistics stripe_statistics_;
  SiteSpace space_;
  std::deque<CallPtr> held_back_;  // until the grace after a start is over
  std::set<SessionId> awaited_;    // sessions of before the start that may still resume
  std::map<std::pair<SiteId, uint32_t>, pb::SiteTraffic> mount_traffic_;
  MonotonicTime traffic_since_;
  std::map<int, uint64_t> operations_;  // requests by kind since the start
  QueueRates queue_rates_;
  uint64_t mount_hellos_ = 0;  // of mounts, since the start
  MonotonicTime last_gc_{}, last_repair_{};
  std::set<SiteId> removing_;  // sites about to leave: nothing new may name them
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
