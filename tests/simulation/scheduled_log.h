// A leader's log over sites in memory, in which a seed decides what happens next: the real
// QuorumEngine and the real logs of sites, without threads and with a clock of its own. Calls are
// made, lost, answered late or by nobody; what a leader that has crashed had sent may still land.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/store/guarded_objects.h"
#include "daemon/journal/fault_log_store.h"
#include "daemon/journal/guarded_log.h"
#include "daemon/journal/quorum_engine.h"
#include "daemon/leadership/leader_lease.h"
#include "daemon/metadata/journal_records.h"
#include "tests/daemon/metadata/journal_rig.h"
#include "tests/support/seeded.h"

namespace datacloud {

// What is wrong with the daemons or the sites of a world.
enum class JournalFlaw {
  none,
  early_reply,     // answers go out before what they show is committed
  no_guard,        // sites append whatever comes
  early_trim,      // entries go before anything else has what they say
  no_lease,        // reads are answered by who may have been replaced
  commits_less,    // one site fewer commits
  forgets_replies  // what is sent again is done again
};

// Objects of a site that does what it is told, by whomever.
class Unguarded final : public GuardedObjects {
 public:
  explicit Unguarded(std::unique_ptr<GuardedObjects> under) : under_(std::move(under)) {}
  void create(const std::string& name, Attributes attributes, Callback<void> done) override {
    under_->create(name, std::move(attributes), std::move(done));
  }
  void change(const std::string& name, GuardedChange change, Callback<void> done) override {
    change.guards.clear();
    under_->change(name, std::move(change), std::move(done));
  }
  void view(const std::string& name, ByteRange range, Callback<ObjectView> done) override {
    under_->view(name, range, std::move(done));
  }
  void remove(const std::string& name, Callback<void> done) override {
    under_->remove(name, std::move(done));
  }
  result<size_t> append_unit() override { return under_->append_unit(); }
  std::string location() const override { return under_->location(); }

 private:
  const std::unique_ptr<GuardedObjects> under_;
};

struct JournalWorld {
  static constexpr Duration kLease = milliseconds(100);
  static constexpr int kSites = 3;

  JournalWorld(Seeded& seeded, JournalFlaw what) : random(seeded), flaw(what) {
    for (int i = 0; i < kSites; ++i) {
      sites.push_back(make_guarded_memory());
      const auto objects = open_guarded_memory(sites.back());
      EXPECT_TRUE(journal::format_guarded_log(*objects, options()));
      views.push_back(journal::make_guarded_log(open_guarded_memory(sites.back()), options()));
    }
    down.assign(kSites, false);
  }
  static journal::GuardedLogOptions options() {
    return {.journal = journal_id(kJournalCloud).value(), .segment_bytes = 64 << 10};
  }
  bool chance(uint64_t percent) { return random.number(0, 99) < percent; }
  BootTime boot() const { return BootTime(now.time_since_epoch()); }
  void pass_time(uint64_t ms_max) { now += milliseconds(random.number(0, ms_max)); }
  // A call of a leader that is no more reaches its site.
  void wake_the_dead() {
    if (dead.empty()) return;
    dead.front()();
    dead.pop_front();
  }
  void require(bool holds, const std::string& what) {
    if (!holds && broken.empty()) broken = what;
  }

  Seeded& random;
  const JournalFlaw flaw;
  std::vector<std::shared_ptr<GuardedMemory>> sites;
  std::vector<std::unique_ptr<journal::LogStore>> views;  // that never fail
  std::vector<bool> down;
  uint64_t fault_percent = 0;
  bool audits = false;  // logs are found wrong now and then, and begin anew
  MonotonicTime now = MonotonicTime() + std::chrono::hours(1);
  uint64_t nonces = 0;
  std::deque<std::function<void()>> dead;
  // Something else happens, while a leader claims or begins.
  std::function<void()> meanwhile;
  uint64_t commits = 0, rewrites = 0;
  std::string broken;  // the first that did not hold
};

class ScheduledLog final : public journal::QuorumLog {
 public:
  ScheduledLog(JournalWorld& world, std::function<void(const Error&)> fenced)
      : world_(world),
        fenced_(std::move(fenced)),
        rules_(rules_of(world)),
        lease_(JournalWorld::kSites, static_cast<size_t>(rules_.commit), JournalWorld::kLease,
               [&world] { return world.boot(); }) {
    journal::EngineOptions options;
    options.journal = world.options().journal;
    for (int i = 0; i < JournalWorld::kSites; ++i) options.names.push_back(std::to_string(i));
    options.rules = rules_;
    options.kept_bytes_max = world.random.number(0, 2) * 3000;
    options.pipeline_bytes_min = world.chance(50) ? 0 : 2000;
    options.nonce = [&world] { return ++world.nonces; };
    engine_ = std::make_unique<journal::QuorumEngine>(std::move(options));
    for (const auto& site : world.sites) {
      auto objects = open_guarded_memory(site);
      if (world.flaw == JournalFlaw::no_guard) {
        objects = std::make_unique<Unguarded>(std::move(objects));
      }
      sites_.push_back({journal::make_fault_log_store(
          journal::make_guarded_log(std::move(objects), world.options()), [&world](auto) {
            if (!world.chance(world.fault_percent)) return journal::LogFault::none;
            return static_cast<journal::LogFault>(world.random.number(1, 3));
          })});
    }
  }

  result<void> claim() {
    TRY(run_until([&] { return engine_->adopted(); }));
    return success();
  }
  LeaderLease& lease() { return lease_; }
  bool over() const { return engine_->over().has_value(); }

  // One thing happens.
  void step() {
    world_.pass_time(1);
    const size_t at = world_.random.number(0, sites_.size() - 1);
    Site& site = sites_[at];
    switch (world_.random.number(0, 8)) {
      case 0:
        take(at);
        break;
      case 1:
        make(site);
        break;
      case 2:
        deliver(site);
        break;
      case 3:
        confirm(at);
        break;
      case 4:
        if (world_.chance(20)) site.store->land_late();
        break;
      default:  // without haste
        take(at);
        while (make(site)) continue;
        while (deliver(site)) continue;
        confirm(at);
    }
    if (world_.audits && world_.chance(1) && engine_->adopted()) {
      world_.rewrites += engine_->rewrite(at) ? 1 : 0;
    }
    tell();
  }

  // Nothing happens by itself any more; calls that were on their way may still reach their sites.
  void crash() {
    for (Site& site : sites_) {
      for (auto& call : site.calls) {
        if (call.reply || world_.dead.size() > 8) continue;
        world_.dead.push_back([store = site.store, c = call.call] { (void)call_store(*store, c); });
      }
    }
    lease_.end();
  }

  const journal::Epoch& epoch() const override { return engine_->epoch(); }
  journal::LogPosition adopted() const override { return engine_->adopted_end(); }
  uint64_t floor() const override { return engine_->floor(); }
  result<bool> contains(const journal::LogPosition& at) override {
    const auto end = adopted();
    if (at.sequence > end.sequence) return false;
    if (at.sequence == end.sequence) return at.hash == end.hash;
    if (at.sequence + 1 < floor()) return failure(Errc::not_found, "it was trimmed");
    if (at.sequence == 0) return true;
    const uint64_t from = std::max(at.sequence, floor());
    TRY(const auto entries, source().read(from, 1));
    if (entries.empty()) return failure(Errc::corrupt, "the log has changed");
    const auto& entry = entries.front();
    return (from == at.sequence ? entry.hash : entry.header.previous) == at.hash;
  }
  result<void> read(uint64_t from,
                    const std::function<result<void>(const journal::LogEntry&)>& sink) override {
    const auto end = adopted();
    if (from < floor()) return failure(Errc::not_found, "it was trimmed");
    while (from <= end.sequence) {
      TRY(const auto entries, source().read(from, journal::kReadBytesMax));
      if (entries.empty()) return failure(Errc::corrupt, "the log has changed");
      for (const auto& entry : entries) {
        if (entry.header.sequence > end.sequence) break;
        if (entry.header.sequence == end.sequence && entry.hash != end.hash) {
          return failure(Errc::corrupt, "the log has changed");
        }
        TRY(sink(entry));
        ++from;
      }
    }
    return success();
  }
  result<void> rewind(const journal::LogPosition&) override {
    return failure(Errc::unsupported, "a simulation");
  }
  result<void> begin(const journal::LogEntry& opening) override {
    engine_->begin(opening);
    return run_until([&] { return engine_->committed().sequence >= opening.header.sequence; });
  }
  void append(journal::LogEntry entry) override {
    if (!engine_->over()) engine_->append(std::move(entry));
  }
  journal::LogPosition committed() const override { return engine_->committed(); }
  void when_committed(uint64_t sequence, std::function<void(result<void>)> done) override {
    waiting_.emplace(sequence, std::move(done));
  }
  uint64_t uncommitted_bytes() const override { return engine_->uncommitted_bytes(); }
  void trim(uint64_t floor) override { engine_->trim(floor); }
  std::vector<journal::MemberState> members() const override { return {}; }

 private:
  struct Call {
    journal::LogRequest call;
    BootTime sent;
    std::optional<result<journal::LogReply>> reply;
  };
  struct Question {  // whether this epoch is promised still
    BootTime asked;
    std::optional<bool> yes;
  };
  struct Site {
    std::shared_ptr<journal::FaultLogStore> store;
    std::deque<Call> calls = {};
    std::optional<Question> question = {};
  };

  static journal::QuorumRules rules_of(const JournalWorld& world) {
    auto rules = journal::quorum_rules(JournalWorld::kSites, 1);
    if (world.flaw == JournalFlaw::commits_less) --rules.commit;
    return rules;
  }

  template <class Done>
  result<void> run_until(Done done) {
    for (int i = 0; i < 3000; ++i) {
      if (engine_->over()) return failure(*engine_->over());
      if (done()) return success();
      step();
      if (world_.meanwhile && world_.chance(10)) world_.meanwhile();
    }
    return failure(Errc::unavailable, "too few sites answer");
  }

  journal::LogStore& source() { return *world_.views[engine_->holders().front()]; }

  void take(size_t at) {
    auto call = engine_->next(at, world_.now);
    if (call) sites_[at].calls.push_back({std::move(*call), world_.boot(), std::nullopt});
  }

  static result<journal::LogReply> call_store(journal::LogStore& store,
                                              const journal::LogRequest& call) {
    using Kind = journal::LogRequest::Kind;
    journal::LogReply reply;
    switch (call.kind) {
      case Kind::head: {
        TRY(reply.head, store.head());
        return reply;
      }
      case Kind::claim: {
        TRY(reply.head, store.claim(call.epoch));
        return reply;
      }
      case Kind::settle: {
        TRY(reply.head, store.settle(call.epoch));
        return reply;
      }
      case Kind::read: {
        TRY(reply.entries, store.read(call.from, call.bytes_max));
        return reply;
      }
      case Kind::begin: {
        TRY(store.begin(call.epoch, call.base, call.where));
        return reply;
      }
      case Kind::append: {
        TRY(auto batch, journal::LogBatch::of(call.entries));
        TRY(journal::append_now(store, call.epoch, std::move(batch)));
        return reply;
      }
      case Kind::trim: {
        TRY(store.trim(call.epoch, call.floor));
        return reply;
      }
      default:
        return failure(Errc::invalid, "no call of this simulation");
    }
  }

  bool make(Site& site) {
    for (Call& call : site.calls) {
      if (call.reply) continue;
      if (world_.down[call.call.store]) {
        call.reply.emplace(failure(Errc::timed_out, "down"));
      } else {
        call.reply.emplace(call_store(*sites_[call.call.store].store, call.call));
      }
      return true;
    }
    return false;
  }

  bool deliver(Site& site) {
    std::vector<size_t> answered;
    for (size_t i = 0; i < site.calls.size(); ++i) {
      if (site.calls[i].reply) answered.push_back(i);
    }
    if (answered.empty()) return false;
    const auto at =
        site.calls.begin() +
        static_cast<std::ptrdiff_t>(answered[world_.random.number(0, answered.size() - 1)]);
    Call call = std::move(*at);
    site.calls.erase(at);
    const bool own = call.call.store == call.call.member && call.call.epoch == engine_->epoch();
    if (own && call.reply->has_value() && call.call.kind == journal::LogRequest::Kind::append) {
      lease_.confirm(call.call.member, call.sent);
    }
    engine_->answer(call.call, std::move(*call.reply), world_.now);
    return true;
  }

  // Asks, is heard, hears: each at some later time, or never.
  void confirm(size_t at) {
    auto& question = sites_[at].question;
    if (!engine_->adopted()) return;
    if (!question) {
      question = Question{world_.boot(), std::nullopt};
    } else if (!question->yes) {
      if (world_.down[at] || world_.chance(world_.fault_percent)) return question.reset();
      const auto head = sites_[at].store->head();
      question->yes = head && head.value().promised == engine_->epoch() && !head.value().sealed;
    } else {
      if (*question->yes) lease_.confirm(at, question->asked);
      question.reset();
    }
  }

  void tell() {
    if (engine_->over()) {
      lease_.end();
      for (auto& [sequence, done] : std::exchange(waiting_, {})) done(failure(*engine_->over()));
      if (auto fenced = std::exchange(fenced_, nullptr)) fenced(*engine_->over());
      return;
    }
    while (!waiting_.empty() && waiting_.begin()->first <= engine_->committed().sequence) {
      auto done = std::move(waiting_.begin()->second);
      waiting_.erase(waiting_.begin());
      ++world_.commits;
      done(success());
    }
  }

  JournalWorld& world_;
  std::function<void(const Error&)> fenced_;
  const journal::QuorumRules rules_;
  LeaderLease lease_;
  std::unique_ptr<journal::QuorumEngine> engine_;
  std::vector<Site> sites_;
  std::multimap<uint64_t, std::function<void(result<void>)>> waiting_;
};

}  // namespace datacloud
