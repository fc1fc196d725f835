// The metadata service: what datacloudd answers to mounts and to the tool.
//
// Everything runs on one thread (EventLoop); nothing here blocks. A request becomes a Call, is
// dispatched to one handler, and is answered exactly once: at once, or later by a continuation (a
// recall was answered, a transaction became durable, a site has answered). Handlers that must wait
// for leases queue the whole call and are run again from the start.
//
// Rules: docs/protocol.md. What the mounts rely on: a reply to a changing request is stored in the
// transaction that made the change; grants, new sessions, revocations and durable commits are
// answered after they survive a power cut; requests a mount needs to answer a recall are never
// queued.
//
// Sessions, leases, names and data are here; all that the daemon does by itself, and what the
// administrator asks of that, is Maintenance (daemon/maintenance).
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/base/clock.h"
#include "common/base/features.h"
#include "common/crypto/keys.h"
#include "common/proto/file_time.h"
#include "common/proto/journal.pb.h"
#include "common/rpc/rpc.h"
#include "daemon/jobs/site_space.h"
#include "daemon/leadership/leader_record_writer.h"
#include "daemon/leadership/standby_registry.h"
#include "daemon/loop/event_loop.h"
#include "daemon/maintenance/service_dependencies.h"
#include "daemon/maintenance/status_problems.h"
#include "daemon/metadata/committer.h"
#include "daemon/metadata/metadata_store.h"
#include "daemon/records/limited_directories.h"
#include "daemon/records/namespace_ops.h"
#include "daemon/records/nodes.h"
#include "daemon/scrub/stripe_statistics.h"
#include "daemon/service/change_watchers.h"
#include "daemon/service/inline_room.h"
#include "daemon/service/journal_checkpoints.h"
#include "daemon/sessions/call.h"
#include "daemon/sessions/id_ranges.h"
#include "daemon/sessions/lease_table.h"
#include "daemon/sessions/lock_table.h"
#include "daemon/sessions/sessions.h"
#include "daemon/sessions/undurable_changes.h"

namespace datacloud {

class JournalAudit;
class Maintenance;
class MetadataService;
namespace inline_blocks {
class Pieces;
}

// Which nodes may send a request. Processes of the daemon's machine may send all.
enum class Access {
  session,   // whoever has one
  read,      // mounts, and the tool of an administrator
  write,     // mounts that may change the cloud
  observe,   // administrators and auditors
  admin,     // administrators
  by_admin,  // decided by the kind of AdminRequest
};

// What the service does with one kind of request. Hello is not among them: it makes the session
// that all others need.
struct Operation {
  pb::Request::OpCase request;
  Answer (*handler)(MetadataService&, const CallPtr&);
  // It looks at or changes what leases protect: it may wait for recalls, and after a start for the
  // sessions of earlier mounts. All others are served at once, always: mounts need some of them to
  // answer recalls.
  bool may_wait;
  bool for_tools;  // tools hold no leases, and change no file
  bool changes;    // may apply a transaction: it is answered when that is committed
  // It makes the metadata grow for good (of commits: those that bring stripes): refused while their
  // disk is full. Everything else, deleting above all, uses what is kept free (state_space.h).
  bool adds;
  Access access;
};

class MetadataService final : public RpcService, private Responder {
 public:
  using Dependencies = ServiceDependencies;
  explicit MetadataService(Dependencies);
  ~MetadataService() override;

  // Makes checkpoints, sealed under this key (entry_sealer.h), if the cloud has a journal. Before
  // start().
  void seal_checkpoints(const SecretKey& metadata_key) { metadata_key_ = metadata_key; }
  // Before the first request: a new start is counted and earlier grants are revoked, durably.
  // Blocks.
  result<void> start();

  void on_request(std::shared_ptr<RpcConnection>, pb::Request) override;
  void on_disconnect(std::shared_ptr<RpcConnection>) override;
  // What status, traffic and fold would answer now, for metrics. On the service's thread; so is
  // `done`.
  void snapshot(
      std::function<void(const pb::StatusReply&, const pb::TrafficReply&, const pb::FoldReply&)>
          done);
  // Decides who a peer over TLS is (TlsServing).
  result<void> admit_peer(const PeerCertificate&, PeerCredentials&, Refusal& reason);
  // A site went away or came back.
  void on_site_change();
  // Where leases get to know how long this machine was suspended; a test's own.
  void count_suspension(std::function<Duration()> suspended) { suspended_ = std::move(suspended); }
  // What the cloud uses now. Changes only on the service's thread.
  const FeatureSet& features() const { return features_; }
  TimeRange time_range() const {
    return features_.has(Feature::times) ? TimeRange::wide : TimeRange::narrow;
  }

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
  void answer(const CallPtr&, pb::Reply) override;
  void answer_when_durable(const CallPtr&, pb::Reply) override;
  void refuse(const CallPtr&, const Error&) override;
  void send(const Call&, pb::Reply);
  void send_now(SessionId, const std::shared_ptr<RpcConnection>&, pb::Reply);
  // Answers from the records as they are now, read later and on the connection's thread. For
  // requests that no lease protects and that change nothing.
  Answer answer_apart(const CallPtr&, std::function<result<pb::Reply>(const Transaction&)> read);
  void pump();
  void send_recall(const LeaseTable::Recall&);
  void push_out(const SessionState&, pb::Push);
  // Waits (false) until no other session holds more than `others` on the inode.
  bool admitted(const CallPtr&, InodeId, pb::LeaseMode others,
                LeaseTable::Wants = LeaseTable::Wants::lease);
  // True: another mount has written what it cannot store now. The inode then has the size and times
  // that are true there; whoever asked gets no lease.
  bool show_unwritten(const Call&, pb::Inode&) const;
  // Applies the transaction with the reply stored under the call's id.
  result<void> commit(Transaction&&, const Call&, pb::Reply&);
  // Answers once every holder counted in `notice` has heard of the change.
  Answer after_notice(const CallPtr&, const LeaseTable::NoticePtr&, pb::Reply);
  SessionState& session_of(const Call& call) { return *sessions_.find(call.session); }

  // service_durability.cc: what survives a power cut, and who is told what does not yet
  void when_durable(std::function<void()>);
  bool all_durable();
  void note_durable(Sequence);
  void note_change(const Call&, const pb::Reply&);
  bool shows_undurable(const Call&, const pb::Reply&) const;
  void limit_leases(const Call&, pb::Reply&);
  void tell_committed();

  // leader_gate.cc: what waits while the leader's lease has run out
  bool may_answer() const;
  bool waits_for_lease(const CallPtr&);  // true: it is dispatched again
  void send_out(std::function<void()>);
  void await_lease();
  void look_at_lease();
  void let_mounts_go();
  void excuse_lost_lease();

  // service_hello.cc: hello, and sessions that come back
  void hello(const CallPtr&);
  result<void> identify(const CallPtr&, pb::Session&);
  bool resume(SessionState&, const Call&, const pb::Session& now);
  bool take_back(SessionState&, const Call&);
  void new_session(const CallPtr&, pb::Session);
  bool may_rejoin(const pb::HelloRequest&, const pb::Session&) const;
  void resent(SessionState&);
  pb::Reply hello_reply(const Call&, SessionState&, bool resumed);

  // service_places.cc: the cloud's daemons, and whether this one has what mounts were told of
  void keep_leader_record();
  std::vector<KnownDaemon> daemons_to_tell() const;
  void add_places(const Call&, google::protobuf::RepeatedPtrField<pb::DaemonPlace>*) const;
  std::string committed_position() const;
  bool knows_history(const CallPtr&);
  void refuse_history(const CallPtr&, const std::string& why);
  void bind(SessionState&, const std::shared_ptr<RpcConnection>&);

  // service_sessions.cc: sessions and their ends
  Answer keepalive(const CallPtr&);
  bool answers_recalls(SessionState&, const pb::KeepaliveRequest&);
  Answer goodbye(const CallPtr&);
  Answer grant(const CallPtr&);
  // Whether its mount may come back and ask for what it has sent.
  enum class Comeback { no, may };
  void end_session(SessionId, const std::string& why, bool clean, Comeback = Comeback::no);
  void end_if_over(SessionId);
  void forget_retired();
  void tick();
  bool in_grace(const Call&) const;
  void run_held_back();
  void renew(SessionState&);
  // Goes on while this machine is suspended (CLOCK_BOOTTIME), as those of the mounts do.
  MonotonicTime lease_now() { return loop_.now() + suspended_(); }
  void excuse_own_sleep();

  // handlers_nodes.cc: nodes, their certificates and what they may do
  void join(const CallPtr&);
  Answer renew_certificate(const CallPtr&);
  Answer node(const CallPtr&, const pb::NodeRequest&);
  result<void> add_node(Transaction&, const pb::NodeRequest&);
  // organisation_nodes.cc
  const pb::Node* holder_of(ByteView fingerprint) const;
  result<void> add_certified_node(Transaction&, const pb::NodeRequest&, NodeRoles);
  result<void> revoke_node(Transaction&, const std::string& name);
  void end_sessions_of(const std::string& node, const std::string& why);
  void list_nodes(const std::string& only, pb::NodeReply&);
  result<const pb::Node*> node_in_force(const PeerCredentials&, Refusal& reason) const;
  result<pb::Reply> certify(Transaction&, pb::Node, ByteView request, ByteView used);
  result<void> identify_node(const pb::HelloRequest&, const PeerCredentials&, pb::Session&);
  std::optional<Error> forbidden(const Call&, Access) const;
  std::optional<Error> forbidden(const Call&, const pb::AdminRequest&) const;
  void end_expired();

  // limited_nodes.cc: nodes that see one directory of the cloud
  InodeId limit_of(const Call&) const;  // 0: none
  bool within_limit(const CallPtr&);
  void walk_limit(InodeId limit);
  void walk_limits_on();
  bool may_resume_with(const Call&, SessionId, InodeId);
  void note_met(const Call&, const pb::Reply&);
  void renamed_within_limits(const pb::RenameRequest&, const pb::RenameReply&);
  void hide_above_limit(const Call&, pb::Reply&) const;
  void forget_limit_of(const std::string& node);  // it was revoked
  std::string limit_path(InodeId limit) const;
  result<InodeId> limit_for(const pb::NodeRequest&, NodeRoles) const;

  // handlers_leases.cc
  Answer lease(const CallPtr&);
  Answer release(const CallPtr&);
  Answer recall_done(const CallPtr&);
  result<pb::Inode> checked_unwritten(const pb::Inode& sent) const;

  // handlers_locks.cc
  Answer lock(const CallPtr&);
  void locks_told(SessionId, const pb::RecallDoneRequest&);
  void adopt_locks(const Call&, SessionId);
  void send_lock_recall(const LockTable::Recall&);

  // handlers_namespace.cc
  Answer lookup(const CallPtr&);
  Answer setattr(const CallPtr&);
  bool is_number_of(const Call&, const Transaction&, InodeId) const;
  BirthTime birth_times() const;
  Answer create(const CallPtr&);
  Answer link(const CallPtr&);
  result<bool> held_by_conversion(const CallPtr&, const pb::LinkRequest&);
  Answer unlink(const CallPtr&);
  Answer rename(const CallPtr&);
  Answer readdir(const CallPtr&);
  void offer_leases(const Call&, InodeId directory, pb::ReadDirReply&);
  Answer getxattr(const CallPtr&);
  Answer setxattr(const CallPtr&);
  Answer listxattr(const CallPtr&);
  Answer removexattr(const CallPtr&);
  void notice_removed(SessionId author, const pb::Inode&, LeaseTable::NoticePtr&);

  // handlers_data.cc
  Answer map(const CallPtr&);
  Answer commit_data(const CallPtr&);
  result<void> check_commit(const pb::CommitRequest&, SessionId) const;
  result<bool> may_clone(const Transaction&, const pb::Inode& target, const pb::InodeUpdate&,
                         SessionId) const;
  bool take_room(uint64_t bytes, bool again);
  result<bool> may_keep(const Transaction&, const pb::Inode&, const pb::InodeUpdate&,
                        const inline_blocks::Pieces&, bool room) const;
  result<void> check_stripe(const pb::Stripe&, SessionId) const;
  result<void> add_rows(Transaction&, const pb::CommitRequest&, SessionId) const;
  Answer abandon(const CallPtr&);
  Answer damage(const CallPtr&);
  Answer sync(const CallPtr&);

  // handlers_watch.cc
  Answer watch(const CallPtr&, const pb::WatchRequest&);

  // handlers_space.cc
  Answer statfs(const CallPtr&);
  // False: the sites are being asked what they have free, and the call is served again then.
  bool knows_space(const CallPtr&);
  // Whether what is reserved, and so much more under the code, fits into what the sites have free.
  result<bool> reservations_fit(const Transaction&, const std::string& code, int64_t more) const;
  result<bool> has_space(const Transaction&, const pb::Inode&, const pb::InodeUpdate&) const;
  result<void> check_reservations(const pb::InodeUpdate&) const;
  void note_stored(const pb::CommitRequest&);

  // handlers_status.cc
  Answer status(const CallPtr&);
  pb::Reply status_reply(const StripeStatistics::Counts&, const SiteSpace::Report&);
  void add_mounts(pb::StatusReply&);
  void add_activity(pb::StatusDetails&) const;

  // handlers_admin.cc
  Answer locate(const CallPtr&);
  Answer locate_part(const pb::LocatePartRequest&);
  result<pb::LocatePartReply> locate_from(const std::string& path, InodeId, uint64_t first) const;
  Answer traffic(const CallPtr&);
  void add_traffic(pb::TrafficReply&);

  // handlers_features.cc
  result<void> load_features(const Transaction&);
  Answer feature(const CallPtr&, const pb::FeatureRequest&);
  // Sessions that do not know the feature, each with what to do.
  std::vector<std::string> sessions_without(const KnownFeature&) const;
  // The feature needs a journal, and the cloud has none.
  bool lacks_journal(const KnownFeature&) const;
  // Null when the session's program knows all that the cloud uses.
  std::optional<Error> lacks_feature(const pb::Session&) const;

  // handlers_journal.cc
  Answer journal(const CallPtr&, const pb::JournalRequest&);
  Answer enable_journal(const CallPtr&, const pb::JournalRequest&);
  Answer make_checkpoint(const CallPtr&);
  Answer audit_journal(const CallPtr&);
  result<void> start_journal_work();
  result<pb::JournalSet> chosen_set(const pb::JournalRequest&) const;
  void enabled_journal(const CallPtr&, const pb::JournalSet&, const result<void>& formatted);
  void describe_journal(pb::JournalStatus&) const;
  void check_journal(StatusProblems&) const;
  // True: the request waits until the journal has room, and is dispatched again.
  bool waits_for_journal(const CallPtr&);

  // handlers_leader.cc
  result<void> open_leadership(Transaction&);
  void begin_leadership();
  void set_lease(uint32_t ms);
  void tell_places();
  Answer leader(const CallPtr&, const pb::LeaderRequest&);
  pb::Reply leader_reply(bool claim_now) const;
  void describe_leader(pb::LeaderReply&) const;
  void check_leader(StatusProblems&) const;
  Answer report_of(const CallPtr&, const pb::LeaderRequest&);
  result<void> put_leadership(pb::Leadership);
  Answer forget_daemon(const CallPtr&, const std::string& name);
  Answer move_leader(const CallPtr&, const std::string& name);
  void hand_over(const std::string& name, const CallPtr&);
  void tell_successor();
  void leader_tick();

  // handlers_policy.cc
  Answer admin(const CallPtr&);
  Answer policy(const CallPtr&, const pb::PolicyRequest&);
  Answer site_key(const CallPtr&, SiteId);

  Dependencies deps_;
  MetadataStore& store_;
  EventLoop& loop_;
  const std::shared_ptr<Committer> chosen_committer_;
  Committer& committer_;
  const ShardNamer namer_;
  const MonotonicTime started_;
  uint64_t start_count_ = 0;
  Sequence sequence_at_start_ = 0;
  size_t sessions_at_start_ = 0;
  Sessions sessions_;
  IdRanges ranges_;
  Nodes nodes_;
  InodeIds inode_ids_{ranges_};
  LimitedDirectories limits_;
  std::vector<CallPtr> limit_waiters_;  // for a walk
  // Leases that were presented after a start, and no walk has confirmed yet.
  std::map<InodeId, std::vector<std::pair<SessionId, InodeId>>> limit_credit_;
  LeaseTable leases_;
  LockTable locks_;
  Sequence durable_ = 0;             // everything up to here survives a power cut
  uint64_t durability_waiters_ = 0;  // functions given to when_durable() that have not run
  UndurableChanges undurable_;
  bool telling_committed_ = false;
  std::function<Duration()> suspended_ = time_suspended;
  Duration slept_{};               // suspended_() at the last tick
  std::deque<CallPtr> held_back_;  // until the grace after a start is over
  std::set<SessionId> awaited_;    // sessions from before the start that may still resume
  std::map<std::pair<SiteId, uint32_t>, pb::SiteTraffic> mount_traffic_;
  MonotonicTime traffic_since_;
  std::map<int, uint64_t> operations_;  // requests by kind since the start
  ChangeWatchers watchers_{loop_};
  InlineRoom inline_room_;
  pb::JournalSet journal_set_;
  uint64_t rollbacks_refused_ = 0;  // hellos of mounts that know of entries which are not here
  std::shared_ptr<LeaderRecordWriter> leader_record_;  // null: the cloud has no journal
  bool enabling_journal_ = false;
  std::optional<SecretKey> metadata_key_;
  std::unique_ptr<JournalCheckpoints> checkpoints_;    // null: the cloud has no journal, or no key
  std::unique_ptr<JournalAudit> journal_audit_;        // the same
  std::deque<CallPtr> leaseless_calls_;                // until the leader's lease holds again
  std::deque<std::function<void()>> leaseless_sends_;  // replies and pushes
  bool awaiting_lease_ = false, told_lease_lost_ = false;
  MonotonicTime lease_lost_{};
  pb::Leadership leadership_;  // as the record; without a journal empty
  StandbyRegistry standbys_;
  std::map<std::string, CallPtr> reports_;  // of standbys, that are answered in a moment
  MonotonicTime led_since_{};
  uint64_t last_at_tick_ = 0;  // sequence of the newest entry
  bool moving_ = false;        // a hand-over is under way
  std::string released_to_;    // the journal was released to this daemon
  pb::Features feature_record_;
  FeatureSet features_;  // what it says
  // Last: its threads end before anything they use.
  std::unique_ptr<Maintenance> maintenance_;
};

}  // namespace datacloud
