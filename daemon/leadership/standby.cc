// One loop: take what a site has answered and apply it, look at what the leader has said, decide.
// Nothing in it waits for a site or for the leader.
#include "daemon/leadership/standby.h"

#include <algorithm>
#include <condition_variable>
#include <iterator>
#include <mutex>
#include <optional>
#include <set>
#include <utility>

#include "common/base/log.h"
#include "daemon/leadership/leader_lease.h"
#include "daemon/leadership/log_follower.h"
#include "daemon/metadata/journal_records.h"
#include "daemon/metadata/record_keys.h"

namespace datacloud {
namespace {

constexpr auto kTurn = milliseconds(20);        // of the loop, when nothing arrives
constexpr auto kPoll = milliseconds(100);       // of a site that has had nothing new
constexpr auto kSiteHangs = seconds(1);         // then another site is read
constexpr auto kSiteIdle = seconds(1);          // without news another one is looked at
constexpr auto kLookAgain = milliseconds(400);  // at all sites, before the claim
constexpr auto kWarnAgain = seconds(60);
// Of a cloud whose record names no daemon: it has never had a standby.
constexpr int kUnknownLeaderPatience = 2;

}  // namespace

struct Standby::Loop {
  Loop(Options& options, std::string& why)
      : o(options), why(why), watch(options.rules, monotonic_now()) {
    auto link_options = options.link;
    link_options.news = [this] { notify(); };
    link = std::make_unique<LeaderLink>(std::move(link_options));
    for (const auto& member : options.members) {
      readers.push_back(
          std::make_unique<SiteReader>(member.name, member.log, [this] { notify(); }));
    }
  }
  ~Loop() {
    link.reset();
    readers.clear();
  }

  void notify() {
    std::lock_guard lock(mutex);
    woken = true;
    wake.notify_one();
  }
  void pause() {
    std::unique_lock lock(mutex);
    wake.wait_for(lock, kTurn, [this] { return woken; });
    woken = false;
  }

  result<void> read_record();
  result<void> take_answers();
  result<void> take(size_t site, SiteReader::Answer);
  void next_source();
  void ask();
  result<void> hear_leader();
  void expect();
  std::optional<End> decide();
  void describe();
  bool knows_nobody() const { return record.daemons_size() == 0; }

  Options& o;
  std::string& why;
  std::mutex mutex;
  std::condition_variable wake;
  bool woken = false;
  std::vector<std::unique_ptr<SiteReader>> readers;
  std::unique_ptr<LeaderLink> link;
  std::optional<LogFollower> follower;
  LeaderWatch watch;
  pb::Leadership record;
  uint64_t record_at = UINT64_MAX;  // transactions followed when it was read
  size_t source = 0;
  MonotonicTime source_since{}, ask_at{};
  std::set<size_t> strangers;  // sites whose logs the store is no part of
  std::string trouble;
  uint64_t answers = 0, refusals = 0;
  bool answered = false;      // by the leader that the record names
  journal::Epoch promised{};  // the highest that was seen
  bool claim_now = false;
  std::optional<MonotonicTime> looking_since;  // at all sites, once more
  std::set<size_t> to_ask, looked, empty;      // not yet; answered since; said that it has no entry
  journal::LogPosition newest;  // that was ever seen: what is newer is a sign of life
  MonotonicTime warned{};
};

result<void> Standby::Loop::read_record() {
  if (record_at == follower->transactions()) return success();
  record_at = follower->transactions();
  pb::Leadership now;
  TRY(o.store.begin().get(key::meta(kLeadershipRecord), now));
  if (now.leader() != record.leader() || now.epoch() != record.epoch()) answered = false;
  record = std::move(now);
  std::vector<std::string> addresses;
  for (const auto& daemon : record.daemons()) {
    if (daemon.name() != record.leader() || daemon.name() == o.link.self.name()) continue;
    addresses.assign(daemon.addresses().begin(), daemon.addresses().end());
  }
  link->set_leader(std::move(addresses));
  return success();
}

void Standby::Loop::next_source() {
  const auto now = monotonic_now();
  source_since = ask_at = now;
  for (size_t i = 1; i <= readers.size(); ++i) {
    const size_t next = (source + i) % readers.size();
    if (readers[next]->asked_at() && i < readers.size()) continue;  // it still hangs
    source = next;
    return;
  }
}

result<void> Standby::Loop::take(size_t site, SiteReader::Answer answer) {
  const auto now = monotonic_now();
  if (!to_ask.contains(site)) looked.insert(site);
  const auto failed = [&](const Error& error) {
    trouble = readers[site]->name() + ": " + error.message();
    if (site != source) return;
    next_source();
    ask_at = now + kPoll;
  };
  if (!answer) {
    // Below the floor there is nothing to go on with.
    if (answer.error().is(Errc::not_found)) strangers.insert(site);
    failed(answer.error());
    return success();
  }
  promised = std::max(promised, answer.value().promised);
  if (answer.value().entries.empty() && follower->next() == 1) empty.insert(site);
  auto fed = follower->feed(answer.value().entries);
  if (!fed) {
    const Error& error = fed.error();
    if (!error.is(Errc::not_found) && !error.is(Errc::corrupt)) return failure(error);
    if (error.is(Errc::not_found)) strangers.insert(site);
    follower->restart();
    failed(error);
    return success();
  }
  switch (fed.value()) {
    case LogFollower::Fed::news:
      // Sites that are behind may have to be read again after one that has another history.
      if (ends_before(newest, follower->seen())) {
        newest = follower->seen();
        watch.lives(now);
        looking_since.reset();
      }
      strangers.clear();
      trouble.clear();
      source = site;
      source_since = ask_at = now;
      break;
    case LogFollower::Fed::parted:
      if (site == source) ask_at = now;
      break;
    case LogFollower::Fed::nothing:
      if (site != source) break;
      trouble.clear();
      ask_at = now + kPoll;
      if (now - source_since > kSiteIdle) next_source();
      break;
  }
  return success();
}

result<void> Standby::Loop::take_answers() {
  for (size_t i = 0; i < readers.size(); ++i) {
    if (auto answer = readers[i]->take()) {
      TRY(take(i, std::move(*answer)));
    }
  }
  return success();
}

void Standby::Loop::ask() {
  const auto now = monotonic_now();
  SiteReader& reader = *readers[source];
  if (const auto since = reader.asked_at()) {
    if (now - *since <= kSiteHangs) return;
    trouble = reader.name() + ": it does not answer";
    next_source();
  }
  if (now >= ask_at) readers[source]->ask(follower->next(), false, now);
}

result<void> Standby::Loop::hear_leader() {
  const auto noted = link->noted();
  const auto now = monotonic_now();
  if (noted.answers != answers) {
    // One that too few sites confirm answers no mount: what it says here is no sign that it leads.
    if (noted.last.lease_ms() == 0 || noted.last.lease_holds()) {
      watch.lives(now);
      looking_since.reset();
    }
    if (!noted.last.committed().empty()) {
      TRY(const auto committed, decode_position(noted.last.committed()));
      TRY(follower->told_committed(committed));
    }
    claim_now = noted.last.claim_now();
    answered = true;
  } else if (noted.refusals != refusals && answered) {
    watch.refused(now);
  }
  // There is no other daemon.
  if (record.daemons_size() == 1 && record.leader() == o.link.self.name()) watch.refused(now);
  answers = noted.answers;
  refusals = noted.refusals;
  link->set_position(follower->applied());
  return success();
}

// Who has claimed has to wait for the last leader's lease before it can be heard of; and a daemon
// to which the journal was released is about to claim.
void Standby::Loop::expect() {
  const auto* note = follower->last_note();
  const bool released_to_another = note != nullptr && note->release() && !note->successor().empty();
  const auto claimed = std::max(promised, follower->seen().epoch);
  if (!knows_nobody() && claimed.number > record.epoch()) {
    watch.be_patient(claimer_patience(milliseconds(record.lease_ms())) + 2 * o.rules.silence);
  } else if (released_to_another) {
    watch.be_patient(o.rules.silence);
  } else {
    watch.be_prompt();
  }
}

std::optional<Standby::End> Standby::Loop::decide() {
  const auto now = monotonic_now();
  expect();
  if (claim_now) return End::asked;
  if (strangers.size() >= o.adopt) {
    why = trouble;
    return End::rebuild;
  }
  if (follower->take_sites_changed()) return End::sites_changed;
  const auto rank = succession_rank(record, o.link.self.name());
  const auto dead = watch.dead_since(now);
  bool due = rank && watch.due(*rank, now);
  if (knows_nobody()) {
    // Without an entry nobody has ever led.
    due = follower->seen().sequence == 0 ||
          (dead && now - *dead >= kUnknownLeaderPatience * o.rules.silence);
  }
  if (!due) {
    looking_since.reset();
    to_ask.clear();
    if (dead && !rank && !knows_nobody() && now - warned > kWarnAgain) {
      warned = now;
      spdlog::warn(
          "the daemon {} does not answer, and has not noted this standby yet: this one does not "
          "take over. If {} is gone for good, start this one without --standby",
          record.leader(), record.leader());
    }
    return std::nullopt;
  }
  // Once more at all sites: one that hangs, or was cut off, may have been the one that is read.
  if (!looking_since) {
    looking_since = now;
    looked.clear();
    empty.clear();
    for (size_t i = 0; i < readers.size(); ++i) to_ask.insert(i);
  }
  for (auto site = to_ask.begin(); site != to_ask.end();) {
    const bool asked = readers[*site]->ask(follower->next(), true, now);
    site = asked ? to_ask.erase(site) : std::next(site);
  }
  if (looked.size() < readers.size() && now - *looking_since < kLookAgain) return std::nullopt;
  if (knows_nobody() && follower->seen().sequence == 0 && empty.size() < o.adopt) {
    looking_since.reset();  // too few have said that they are empty
    return std::nullopt;
  }
  return End::take_over;
}

void Standby::Loop::describe() {
  if (!o.tell) return;
  const auto noted = link->noted();
  StandbyState state;
  state.leader = record.leader();
  state.leader_answers = noted.failure.empty() && noted.answers > 0;
  state.applied = follower->applied().sequence;
  state.seen = follower->seen().sequence;
  uint64_t committed = state.applied;
  if (const auto at = decode_position(noted.last.committed())) {
    committed = std::max(committed, at.value().sequence);
  }
  state.behind = committed - state.applied;
  state.noted = succession_rank(record, o.link.self.name()).has_value();
  state.trouble = trouble;
  o.tell(state);
}

Standby::Standby(Options options) : options_(std::move(options)) {
  loop_ = std::make_unique<Loop>(options_, why_);
}

Standby::~Standby() = default;

result<Standby::End> Standby::run() {
  Loop& loop = *loop_;
  TRY(auto follower, LogFollower::open(options_.store, options_.journal, options_.metadata_key));
  loop.follower.emplace(std::move(follower));
  loop.source_since = monotonic_now();
  for (;;) {
    if (options_.stopped()) return End::stopped;
    options_.alive();
    TRY(loop.take_answers());
    TRY(loop.read_record());
    TRY(loop.hear_leader());
    if (const auto end = loop.decide()) {
      loop.link->set_leader({});
      return *end;
    }
    loop.ask();
    loop.describe();
    loop.pause();
  }
}

}  // namespace datacloud
