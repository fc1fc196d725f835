// The cloud's journal as administrators and requests meet it: switching it on, what it is worth
// now, and the wait of requests that change something while too much is at no quorum.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "common/base/log.h"
#include "common/stripe/placement.h"
#include "daemon/checkpoint/journal_audit.h"
#include "daemon/maintenance/maintenance.h"
#include "daemon/metadata/journal_records.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/cloud_features.h"
#include "daemon/service/service.h"

namespace datacloud {
namespace {

// The reply goes out before.
constexpr auto kStartAnew = milliseconds(200);
// The journal and checkpoints are read back so often while all shards are proven once: they are
// little, and all that is left of the metadata when the daemon's machine is lost.
constexpr uint64_t kAuditsOfJournal = 14;

journal::QuorumRules rules_of(const pb::JournalSet& set) {
  return journal::quorum_rules(set.sites_size(), static_cast<int>(set.losses()));
}

}  // namespace

Answer MetadataService::journal(const CallPtr& call, const pb::JournalRequest& request) {
  switch (request.action()) {
    case pb::JOURNAL_STATUS:
      break;
    case pb::JOURNAL_ENABLE:
      if (!deps_.journal) return enable_journal(call, request);
      break;
    case pb::JOURNAL_CHECKPOINT:
      return make_checkpoint(call);
    case pb::JOURNAL_AUDIT:
      return audit_journal(call);
    default:
      return failure(Errc::unsupported, "the daemon does not know this request");
  }
  pb::AdminReply admin;
  describe_journal(*admin.mutable_journal()->mutable_status());
  return std::optional(wrapped(admin));
}

// Answers when its root is committed.
Answer MetadataService::make_checkpoint(const CallPtr& call) {
  if (!checkpoints_) {
    return failure(Errc::invalid, "the cloud has no journal: `datacloud journal enable` first");
  }
  checkpoints_->job().request("asked for", [this, call](const result<pb::CheckpointRecord>& made) {
    if (!made) return refuse(call, made.error());
    pb::AdminReply admin;
    describe_journal(*admin.mutable_journal()->mutable_status());
    answer(call, wrapped(admin));
  });
  return later();
}

// Answers when all of it has been read back once.
Answer MetadataService::audit_journal(const CallPtr& call) {
  if (!journal_audit_) {
    return failure(Errc::invalid, "the cloud has no journal: `datacloud journal enable` first");
  }
  journal_audit_->request([this, call] {
    pb::AdminReply admin;
    describe_journal(*admin.mutable_journal()->mutable_status());
    answer(call, wrapped(admin));
  });
  return later();
}

result<void> MetadataService::start_journal_work() {
  checkpoints_ = std::make_unique<JournalCheckpoints>(deps_, journal_set_, *metadata_key_);
  TRY(checkpoints_->start());
  JournalAuditOptions options;
  TRY(options.journal, journal_id(deps_.cloud.uuid()));
  options.metadata_key = *metadata_key_;
  options.cycle = milliseconds(deps_.config.audit_cycle_ms / kAuditsOfJournal);
  options.bytes_per_second_max = deps_.config.background_site_bytes_per_second_max;
  options.run = [this](std::function<void()> job, std::function<void()> then) {
    maintenance_->in_background(std::move(job), std::move(then));
  };
  journal_audit_ =
      std::make_unique<JournalAudit>(store_, committer_, deps_.sites, deps_.loop,
                                     deps_.journal->log(), checkpoints_->job(), std::move(options));
  return journal_audit_->start();
}

result<pb::JournalSet> MetadataService::chosen_set(const pb::JournalRequest& request) const {
  pb::JournalSet set;
  TRY(const auto id, journal_id(deps_.cloud.uuid()));
  set.set_journal(std::string(as_text(ByteView(id.data(), id.size()))));
  set.set_number(1);
  set.set_segment_bytes(deps_.journal_config.segment_bytes);
  std::set<uint32_t> known;
  for (const auto& site : deps_.cloud.sites()) {
    if (site.duty() == pb::SITE_ACTIVE) known.insert(site.id());
  }
  const std::set<uint32_t> wanted(request.sites().begin(), request.sites().end());
  for (const uint32_t site : wanted.empty() ? known : wanted) {
    if (!known.contains(site)) {
      return failure(Errc::not_found, fmt::format("the cloud has no active site number {}", site));
    }
    set.add_sites(site);
  }
  const int losses = compute_tolerance(*deps_.code, static_cast<int>(known.size())).sites;
  set.set_losses(static_cast<uint32_t>(losses));
  TRY(check_journal_strength(set, losses, request.accept_weaker()));
  if (valid_set(set)) return set;
  return failure(Errc::invalid,
                 fmt::format("a journal is held by 1 to {} sites", journal::kJournalSitesMax));
}

// Each step may be repeated after a crash: logs without entries are taken over, and once the
// transaction is durable, every start of the daemon leads the journal.
Answer MetadataService::enable_journal(const CallPtr& call, const pb::JournalRequest& request) {
  if (!deps_.format_journal || !deps_.start_anew) {
    return failure(Errc::unsupported, "this daemon cannot switch a journal on");
  }
  if (enabling_journal_) {
    return failure(Errc::unavailable, "the journal is being switched on; ask again in a moment");
  }
  TRY(auto set, chosen_set(request));
  enabling_journal_ = true;
  auto formatted = std::make_shared<result<void>>(success());
  maintenance_->in_background(
      [formatted, set, format = deps_.format_journal] { *formatted = format(set); },
      [this, call, set, formatted] { enabled_journal(call, set, *formatted); });
  return later();
}

void MetadataService::enabled_journal(const CallPtr& call, const pb::JournalSet& set,
                                      const result<void>& formatted) {
  const auto noted = [&]() -> result<void> {
    TRY(formatted);
    Transaction txn = store_.begin();
    TRY(enable_feature(txn, Feature::journal, store_.sequence() + 1));
    txn.put(key::meta(kJournalRecord), set);
    txn.put(key::meta(kPositionRecord), encode_position({}));
    return committer_.apply(std::move(txn));
  }();
  if (!noted) {
    enabling_journal_ = false;
    return refuse(call, noted.error());
  }
  journal_set_ = set;
  spdlog::warn("the cloud has a journal at {} sites from now on; the daemon starts anew",
               set.sites_size());
  when_durable([this, call] {
    pb::AdminReply admin;
    describe_journal(*admin.mutable_journal()->mutable_status());
    send(*call, [&] {
      auto reply = wrapped(admin);
      reply.set_id(call->request.id());
      reply.set_sequence(store_.sequence());
      return reply;
    }());
    loop_.after(kStartAnew, [this] { deps_.start_anew(); });
  });
}

void MetadataService::describe_journal(pb::JournalStatus& out) const {
  const int sites = static_cast<int>(deps_.sites.size());
  out.set_data_losses(compute_tolerance(*deps_.code, sites).sites);
  if (journal_set_.sites_size() > 0) {
    const auto rules = rules_of(journal_set_);
    out.set_commit_sites(rules.commit);
    out.set_losses_survived(rules.commit - 1);
    out.set_witnesses(rules.witnesses);
    *out.mutable_set() = journal_set_.sites();
    out.set_f(journal_set_.losses());
  }
  out.set_bytes_max(deps_.journal_config.bytes_max);
  if (!deps_.journal) return;
  const auto& log = deps_.journal->log();
  out.set_used(true);
  out.set_epoch(log.epoch().number);
  out.set_last(deps_.journal->last().sequence);
  out.set_committed(log.committed().sequence);
  out.set_floor(deps_.journal->floor());
  out.set_bytes(deps_.journal->bytes());
  out.set_uncommitted_bytes(log.uncommitted_bytes());
  out.set_uncommitted_bytes_max(deps_.journal->uncommitted_bytes_max());
  out.set_waiting(deps_.journal->waiting());
  out.set_rollbacks_refused(rollbacks_refused_);
  int at_work = 0;
  for (const auto& member : log.members()) {
    auto* site = out.add_sites();
    site->set_id(static_cast<uint32_t>(member.site));
    site->set_name(member.name);
    site->set_state(journal::member_state_text(member.state));
    site->set_acknowledged(member.acknowledged);
    site->set_reason(member.reason);
    // The log learns that a site is away when it sends something.
    Site* store = deps_.sites.find(static_cast<SiteId>(member.site));
    if (member.state == journal::MemberState::State::ok && store != nullptr && !store->up()) {
      site->set_state(journal::member_state_text(journal::MemberState::State::away));
      site->set_reason(store->away_reason());
    }
    at_work += site->state() == journal::member_state_text(journal::MemberState::State::ok) ? 1 : 0;
  }
  out.set_margin(at_work - out.commit_sites());
  if (checkpoints_) checkpoints_->describe(out);
  if (journal_audit_) journal_audit_->describe(*out.mutable_audit());
}

void MetadataService::check_journal(StatusProblems& problems) const {
  if (!deps_.journal) return;
  pb::JournalStatus status;
  describe_journal(status);
  for (const auto& site : status.sites()) {
    if (site.state() == "ok") continue;
    problems.add(Health::degraded,
                 fmt::format("the journal at site {} is {}{}{}", site.name(), site.state(),
                             site.reason().empty() ? "" : ": ", site.reason()));
  }
  if (status.margin() < 0) {
    problems.add(
        Health::failing,
        fmt::format("the journal needs {} of its {} sites and has {}: fsync waits, and "
                    "changes wait once {} MiB are at no quorum",
                    status.commit_sites(), status.sites_size(),
                    status.commit_sites() + status.margin(), status.uncommitted_bytes_max() >> 20));
  } else if (status.margin() == 0 && status.commit_sites() < status.sites_size()) {
    problems.add(
        Health::degraded,
        fmt::format("the journal has no site to spare: it needs {} of its {} sites, and no "
                    "more are at work",
                    status.commit_sites(), status.sites_size()));
  }
  if (rollbacks_refused_ > 0) {
    problems.add(Health::failing,
                 "mounts were told of journal entries that are not here: the cloud was put back "
                 "from a backup, or recovered to an earlier entry, and they are refused; if that "
                 "is intended, unmount them and mount again");
  }
  if (checkpoints_) checkpoints_->check(problems);
  for (const auto& problem : status.audit().problems()) {
    problems.add(Health::degraded, "the audit of the journal has found: " + problem);
  }
  if (status.waiting() > 0) {
    problems.add(Health::failing, fmt::format("{} requests wait for the journal: {} MiB of changes "
                                              "are at no quorum",
                                              status.waiting(), status.uncommitted_bytes() >> 20));
  }
}

// What mounts change. What ends sessions, gives up ids and what administrators do goes on.
bool MetadataService::waits_for_journal(const CallPtr& call) {
  const Operation& operation = *call->operation;
  const bool grows = operation.changes && !operation.for_tools &&
                     (operation.may_wait || operation.adds || call->request.has_grant());
  if (!grows || call->has_room || call->admitted != 0 || !committer_.full()) return false;
  call->has_room = true;
  committer_.when_room([this, call] {
    dispatch(call);
    pump();
  });
  return true;
}

}  // namespace datacloud
