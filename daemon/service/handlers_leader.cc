// The cloud's daemons as the one that leads sees them: who there is, who stands by, and the
// hand-over. docs/journal.md, "Standby and take-over".
#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "common/base/log.h"
#include "daemon/metadata/journal_records.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/service/service.h"

namespace datacloud {
namespace {

constexpr auto kReportHeld = milliseconds(400);  // a standby's report is answered by then
constexpr auto kLeaderTick = milliseconds(300);
constexpr auto kSignsOfLife = std::chrono::minutes(10);
constexpr auto kReleasePatience = seconds(5);  // of the sites, and of the one that is to lead
constexpr auto kReplyLeaves = milliseconds(30);

Error no_standbys() {
  return Error(Errc::invalid,
               "the cloud has no journal, and so no standby: `datacloud journal enable` first");
}

}  // namespace

// The record as it is from this start on; the transaction of the start has it.
result<void> MetadataService::open_leadership(Transaction& txn) {
  if (!deps_.journal) return success();
  TRY(txn.get(key::meta(kLeadershipRecord), leadership_));
  if (const auto problem = leadership_problem(leadership_); !problem.empty()) {
    spdlog::warn("the record of the cloud's daemons is not good: {}; it is begun anew", problem);
    const uint32_t lease_ms = leadership_.lease_ms();
    leadership_.Clear();
    leadership_.set_lease_ms(lease_ms);
  }
  const auto& own = deps_.self;
  pb::Leadership::Daemon self;
  self.set_name(own.name.empty() ? "daemon" : own.name);
  self.set_order(static_cast<uint32_t>(own.order));
  for (const auto& address : own.addresses) self.add_addresses(address);
  if (!note_daemon(leadership_, self)) {  // there are too many: it is no standby of theirs
    leadership_.clear_daemons();
    *leadership_.add_daemons() = self;
  }
  leadership_.set_leader(self.name());
  leadership_.set_epoch(deps_.journal->log().epoch().number);
  leadership_.set_since_ns(wall_now_ns());
  if (leadership_.lease_ms() != 0) leadership_.set_lease_ms(deps_.journal_config.leader_lease_ms);
  txn.put(key::meta(kLeadershipRecord), leadership_);
  return success();
}

// Its start is durable: claimers know of the lease as it is now.
void MetadataService::begin_leadership() {
  if (!deps_.journal) return;
  led_since_ = loop_.now();
  set_lease(leadership_.lease_ms());
  tell_places();
  loop_.after(kLeaderTick, [this] { leader_tick(); });
}

void MetadataService::set_lease(uint32_t ms) {
  if (!deps_.lease || deps_.lease->length() == milliseconds(ms)) return;
  deps_.lease->set_length(milliseconds(ms));
  if (deps_.lease_changed) deps_.lease_changed();
}

void MetadataService::tell_places() {
  if (deps_.places) deps_.places->set(known_daemons(leadership_));
}

Answer MetadataService::leader(const CallPtr& call, const pb::LeaderRequest& request) {
  switch (request.action()) {
    case pb::LEADER_SHOW:
      break;
    case pb::LEADER_MOVE:
      return move_leader(call, request.name());
    case pb::LEADER_REPORT:
      return report_of(call, request);
    case pb::LEADER_FORGET:
      return forget_daemon(call, request.name());
    default:
      return failure(Errc::unsupported, "the daemon does not know this request");
  }
  return std::optional(leader_reply(false));
}

pb::Reply MetadataService::leader_reply(bool claim_now) const {
  pb::AdminReply admin;
  describe_leader(*admin.mutable_leader());
  admin.mutable_leader()->set_claim_now(claim_now);
  return wrapped(admin);
}

void MetadataService::describe_leader(pb::LeaderReply& out) const {
  const auto now = loop_.now();
  std::vector<const pb::Leadership::Daemon*> daemons;
  for (const auto& daemon : leadership_.daemons()) daemons.push_back(&daemon);
  std::sort(daemons.begin(), daemons.end(), [](const auto* a, const auto* b) {
    return std::tuple(a->order(), a->name()) < std::tuple(b->order(), b->name());
  });
  for (const auto* daemon : daemons) {
    auto* told = out.add_daemons();
    told->set_name(daemon->name());
    *told->mutable_addresses() = daemon->addresses();
    told->set_order(daemon->order());
    told->set_leads(daemon->name() == leadership_.leader());
    const auto* standing = standbys_.find(daemon->name());
    told->set_connected(told->leads() || standbys_.connected(daemon->name(), now));
    told->set_silent_ms(-1);
    if (told->leads()) told->set_silent_ms(0);
    if (standing == nullptr || told->leads()) continue;
    told->set_behind(standing->behind);
    told->set_silent_ms(std::chrono::duration_cast<milliseconds>(now - standing->heard).count());
  }
  out.set_epoch(leadership_.epoch());
  out.set_since_ns(leadership_.since_ns());
  out.set_plan(standbys_.plan(leadership_, now));
  out.set_lease_ms(leadership_.lease_ms());
  out.set_lease_holds(may_answer());
  if (deps_.journal) out.set_committed(encode_position(deps_.journal->log().committed()));
}

void MetadataService::check_leader(StatusProblems& problems) const {
  const std::string plan = standbys_.plan(leadership_, loop_.now());
  if (plan == "B") {
    problems.add(
        Health::degraded,
        fmt::format("the daemon {} leads, which is not the preferred one", leadership_.leader()));
  } else if (plan == "C") {
    problems.add(Health::degraded,
                 "no standby is connected and caught up: if this daemon's machine is lost, the "
                 "cloud stands still until it is recovered from the sites");
  }
  if (!may_answer()) {
    problems.add(Health::failing,
                 "too few sites confirm that this daemon leads: mounts get no answers");
  }
}

// A standby says that it is there. The answer waits a moment, so that it can bring news at once.
Answer MetadataService::report_of(const CallPtr& call, const pb::LeaderRequest& request) {
  if (!deps_.journal) return failure(no_standbys());
  TRY(standbys_.report(request, leadership_.leader(), deps_.journal->log().committed().sequence,
                       loop_.now()));
  pb::Leadership::Daemon daemon;
  daemon.set_name(request.name());
  daemon.set_order(request.order());
  *daemon.mutable_addresses() = request.addresses();
  pb::Leadership changed = leadership_;
  TRY(const bool news, note_daemon(changed, daemon));
  if (news) {
    if (changed.lease_ms() == 0) changed.set_lease_ms(deps_.journal_config.leader_lease_ms);
    spdlog::info("daemon {} stands by (order {})", request.name(), request.order());
    TRY(put_leadership(std::move(changed)));
  }
  auto& waiting = reports_[request.name()];
  if (waiting) answer(std::exchange(waiting, nullptr), leader_reply(false));
  waiting = call;
  if (released_to_ == request.name()) {
    tell_successor();
    return later();
  }
  loop_.after(kReportHeld, [this, call, name = request.name()] {
    const auto at = reports_.find(name);
    if (at == reports_.end() || at->second != call) return;
    reports_.erase(at);
    answer(call, leader_reply(false));
  });
  return later();
}

// The lease holds from the moment at which others could read that it does.
result<void> MetadataService::put_leadership(pb::Leadership changed) {
  Transaction txn = store_.begin();
  txn.put(key::meta(kLeadershipRecord), changed);
  TRY(committer_.apply(std::move(txn)));
  leadership_ = std::move(changed);
  const uint32_t lease_ms = leadership_.lease_ms();
  if (deps_.lease && lease_ms != 0 && deps_.lease->length() == Duration(0)) set_lease(lease_ms);
  when_durable([this] { set_lease(leadership_.lease_ms()); });
  tell_places();
  return success();
}

Answer MetadataService::forget_daemon(const CallPtr& call, const std::string& name) {
  if (!deps_.journal) return failure(no_standbys());
  pb::Leadership changed = leadership_;
  auto& daemons = *changed.mutable_daemons();
  const auto at = std::find_if(daemons.begin(), daemons.end(),
                               [&](const auto& daemon) { return daemon.name() == name; });
  if (at == daemons.end())
    return failure(Errc::not_found, fmt::format("the cloud has no daemon \"{}\"", name));
  if (name == leadership_.leader())
    return failure(Errc::invalid, fmt::format("{} leads; it cannot be forgotten", name));
  if (standbys_.connected(name, loop_.now()))
    return failure(Errc::invalid, fmt::format("{} stands by: stop it first", name));
  daemons.erase(at);
  // Without any other daemon no lease is kept, once claimers are sure to know.
  if (daemons.size() == 1) changed.set_lease_ms(0);
  standbys_.forget(name);
  TRY(put_leadership(std::move(changed)));
  answer_when_durable(call, leader_reply(false));
  return later();
}

Answer MetadataService::move_leader(const CallPtr& call, const std::string& name) {
  if (!deps_.journal || !deps_.stand_down) return failure(no_standbys());
  if (name == leadership_.leader())
    return failure(Errc::exists, fmt::format("{} leads already", name));
  if (!released_to_.empty() || moving_)
    return failure(Errc::unavailable, "a hand-over is under way");
  const auto now = loop_.now();
  const bool known = std::any_of(leadership_.daemons().begin(), leadership_.daemons().end(),
                                 [&](const auto& daemon) { return daemon.name() == name; });
  if (!known) {
    return failure(
        Errc::not_found,
        fmt::format("the cloud has no daemon \"{}\"; `datacloud leader show` lists them", name));
  }
  if (!standbys_.connected(name, now)) {
    return failure(Errc::unavailable,
                   fmt::format("{} is not connected: start it with --standby", name));
  }
  if (!standbys_.caught_up(name, now)) {
    return failure(Errc::unavailable,
                   fmt::format("{} is {} entries behind; wait until it has caught up", name,
                               standbys_.find(name)->behind));
  }
  hand_over(name, call);
  return later();
}

// From here on this daemon answers nothing to mounts, whatever becomes of it.
void MetadataService::hand_over(const std::string& name, const CallPtr& call) {
  spdlog::warn("handing the cloud over to the daemon {}", name);
  moving_ = true;
  if (deps_.lease) deps_.lease->end();
  loop_.after(kReleasePatience, [this] { deps_.stand_down(); });
  pb::LeaderNote note;
  note.set_release(true);
  note.set_successor(name);
  const std::string content = note.SerializeAsString();
  // Once it is committed, so is all before it; and it has to be the last.
  (void)deps_.journal->append(journal::EntryKind::note, as_bytes(content),
                              [this, name, call](const journal::LogPosition&) {
                                released_to_ = name;
                                if (call) answer(call, leader_reply(false));
                                if (reports_[name]) tell_successor();
                              });
  deps_.journal->close();
}

void MetadataService::tell_successor() {
  answer(std::exchange(reports_[released_to_], nullptr), leader_reply(true));
  loop_.after(kReplyLeaves, [this] { deps_.stand_down(); });
}

void MetadataService::leader_tick() {
  loop_.after(kLeaderTick, [this] { leader_tick(); });
  if (moving_ || leadership_.daemons_size() < 2) return;
  const auto now = loop_.now();
  const uint64_t last = deps_.journal->last().sequence;
  const bool idle = std::exchange(last_at_tick_, last) == last;
  if (idle && standbys_.misses_one(leadership_, led_since_, kSignsOfLife, now)) {
    const std::string content = pb::LeaderNote().SerializeAsString();
    (void)deps_.journal->append(journal::EntryKind::note, as_bytes(content), {});
    last_at_tick_ = deps_.journal->last().sequence;
  }
  if (now - led_since_ < milliseconds(deps_.journal_config.leader_stay_ms)) return;
  if (const auto name = standbys_.preferred(leadership_, now); name && deps_.stand_down)
    hand_over(*name, nullptr);
}

}  // namespace datacloud
