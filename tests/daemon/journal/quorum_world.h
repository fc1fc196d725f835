// Sites of a journal in memory and leaders of it, for schedules in which a seed decides everything:
// each leader is a real QuorumEngine, whose calls are made, lost, answered late or by nobody.
//
// What must hold (World::broken tells what did not): there is one history, nothing committed is
// lost, and nothing is told to be committed that fewer than q sites have.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "daemon/journal/fault_log_store.h"
#include "daemon/journal/guarded_log.h"
#include "daemon/journal/quorum_engine.h"
#include "tests/daemon/journal/log_site.h"
#include "tests/support/seeded.h"

namespace datacloud::journal {

// What is wrong with the leaders of a schedule.
enum class Flaw {
  none,
  commits_less,     // one site fewer commits
  claims_less,      // one site fewer is claimed and read
  counts_old,       // entries of earlier epochs are committed by counting their copies
  rewrites_always,  // a log begins anew although too few others have what is committed
  serves_early      // what was adopted is shown before the own opening entry is committed
};

class FlawedEngine : public QuorumEngine {
 public:
  using QuorumEngine::QuorumEngine;

 protected:
  uint64_t counted_from() const override { return 1; }
};

class RewritingEngine : public QuorumEngine {
 public:
  using QuorumEngine::QuorumEngine;

 protected:
  bool spares(size_t) const override { return true; }
};

inline std::unique_ptr<QuorumEngine> make_engine(Flaw flaw, EngineOptions options) {
  if (flaw == Flaw::counts_old) return std::make_unique<FlawedEngine>(std::move(options));
  if (flaw == Flaw::rewrites_always) return std::make_unique<RewritingEngine>(std::move(options));
  return std::make_unique<QuorumEngine>(std::move(options));
}

struct SimulatedWorld {
  SimulatedWorld(Seeded& seeded, QuorumRules quorum, Flaw what = Flaw::none)
      : random(seeded), rules(quorum), flaw(what) {
    for (int i = 0; i < rules.sites; ++i) {
      sites.push_back(make_guarded_memory());
      auto objects = open_guarded_memory(sites.back());
      EXPECT_TRUE(format_guarded_log(*objects, options()));
      views.push_back(make_guarded_log(std::move(objects), options()));
    }
    down.resize(sites.size());
  }
  static GuardedLogOptions options() { return {test_journal(), 8 << 10}; }
  bool chance(uint64_t percent) { return random.number(0, 99) < percent; }
  void require(bool holds, const std::string& what) {
    if (!holds && broken.empty()) broken = what;
  }
  // A call of a leader that is no more reaches its site.
  void wake_the_dead() {
    if (dead.empty()) return;
    dead.front()();
    dead.pop_front();
  }

  Seeded& random;
  const QuorumRules rules;
  const Flaw flaw;
  std::vector<std::shared_ptr<GuardedMemory>> sites;
  std::vector<std::unique_ptr<LogStore>> views;  // that never fail
  std::vector<bool> down;
  uint64_t fault_percent = 0;
  bool audits = false;  // logs are found wrong now and then
  MonotonicTime now = MonotonicTime() + std::chrono::hours(1);
  uint64_t nonces = 0;
  std::map<uint64_t, ChainHash> committed;  // by sequence
  std::map<uint64_t, Epoch> committed_by;
  uint64_t covered = 0;  // by a checkpoint
  std::deque<std::function<void()>> dead;
  size_t commits = 0, adoptions = 0, trims = 0, checkpoints = 0, pipelined = 0, read_back = 0,
         rewrites = 0;
  std::string broken;  // the first that did not hold
};

class SimulatedLeader {
 public:
  explicit SimulatedLeader(SimulatedWorld& world) : world_(world) {
    EngineOptions options;
    options.journal = test_journal();
    for (size_t i = 0; i < world.sites.size(); ++i) options.names.push_back(std::to_string(i));
    options.rules = world.rules;
    if (world.flaw == Flaw::commits_less) --options.rules.commit;
    if (world.flaw == Flaw::claims_less) --options.rules.adopt;
    options.kept_bytes_max = world.random.number(0, 2) * 3000;
    options.pipeline_bytes_min = world.chance(50) ? 0 : 2000;
    options.nonce = [&world] { return ++world.nonces; };
    engine_ = make_engine(world.flaw, std::move(options));
    for (const auto& site : world.sites) {
      sites_.push_back({make_fault_log_store(
          make_guarded_log(open_guarded_memory(site), world.options()), [&world](LogCall) {
            if (!world.chance(world.fault_percent)) return LogFault::none;
            return static_cast<LogFault>(world.random.number(1, 3));
          })});
    }
  }

  // One thing happens. False: it leads no more.
  bool step(uint64_t entries_max) {
    world_.now += milliseconds(world_.random.number(0, 40));
    const size_t at = world_.random.number(0, sites_.size() - 1);
    Site& site = sites_[at];
    switch (world_.random.number(0, 7)) {
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
        work(entries_max);
        break;
      case 4:
        if (world_.chance(20)) site.store->land_late();
        break;
      default:  // without haste
        take(at);
        while (make(site)) continue;
        while (deliver(site)) continue;
    }
    return follow();
  }

  // Nothing happens by itself any more; calls that were on their way may still reach their sites.
  void crash() {
    for (Site& site : sites_) {
      for (auto& call : site.calls) {
        if (call.reply || world_.dead.size() > 8) continue;
        world_.dead.push_back([store = site.store, c = call.call] { (void)call_store(*store, c); });
      }
    }
  }

  const QuorumEngine& engine() const { return *engine_; }
  // All sites have all of it.
  bool done() const {
    if (!begun_ || engine_->committed() != engine_->last()) return false;
    for (size_t i = 0; i < sites_.size(); ++i) {
      const auto state = engine_->state(i, world_.now);
      if (state.state != MemberState::State::ok) return false;
      if (state.acknowledged != engine_->last().sequence) return false;
    }
    return true;
  }

 private:
  struct Call {
    LogRequest call;
    std::optional<result<LogReply>> reply;
  };
  struct Site {
    std::shared_ptr<FaultLogStore> store;
    std::deque<Call> calls;
  };

  void take(size_t at) {
    auto call = engine_->next(at, world_.now);
    if (!call) return;
    size_t appends = 0;
    for (const Call& c : sites_[at].calls) appends += c.call.kind == LogRequest::Kind::append;
    world_.pipelined += call->kind == LogRequest::Kind::append && appends > 0;
    world_.read_back += call->store != call->member && call->bytes_max > 1;
    world_.checkpoints += call->kind == LogRequest::Kind::begin && call->where == Base::checkpoint;
    world_.trims += call->kind == LogRequest::Kind::trim;
    sites_[at].calls.push_back({std::move(*call), std::nullopt});
  }

  static result<LogReply> call_store(LogStore& store, const LogRequest& call) {
    LogReply reply;
    switch (call.kind) {
      case LogRequest::Kind::head: {
        TRY(reply.head, store.head());
        return reply;
      }
      case LogRequest::Kind::claim: {
        TRY(reply.head, store.claim(call.epoch));
        return reply;
      }
      case LogRequest::Kind::settle: {
        TRY(reply.head, store.settle(call.epoch));
        return reply;
      }
      case LogRequest::Kind::read: {
        TRY(reply.entries, store.read(call.from, call.bytes_max));
        return reply;
      }
      case LogRequest::Kind::begin: {
        TRY(store.begin(call.epoch, call.base, call.where));
        return reply;
      }
      case LogRequest::Kind::append: {
        TRY(auto batch, LogBatch::of(call.entries));
        TRY(append_now(store, call.epoch, std::move(batch)));
        return reply;
      }
      case LogRequest::Kind::trim: {
        TRY(store.trim(call.epoch, call.floor));
        return reply;
      }
    }
    return failure(Errc::invalid, "no such call");
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
    engine_->answer(call.call, std::move(*call.reply), world_.now);
    return true;
  }

  // The daemon above: appends, makes checkpoints, trims.
  void work(uint64_t entries_max) {
    if (!begun_ || engine_->committed().sequence < opening_) return;
    const uint64_t open = engine_->last().sequence - engine_->committed().sequence;
    for (uint64_t n = world_.random.number(0, 3); n > 0; --n) {
      if (open + n > 12 || engine_->last().sequence >= entries_max) continue;
      const LogEntry entry = entry_after(engine_->last(), engine_->epoch(),
                                         world_.chance(10) ? world_.random.number(0, 3000) : 0);
      log_[entry.header.sequence] = entry.hash;
      engine_->append(entry);
    }
    if (world_.chance(8)) {
      const uint64_t covers = world_.random.number(0, engine_->committed().sequence);
      world_.covered = std::max(world_.covered, covers);
      engine_->trim(covers + 1);
    }
    // An audit finds a site's log wrong.
    if (world_.audits && world_.chance(4)) {
      world_.rewrites += engine_->rewrite(world_.random.number(0, sites_.size() - 1)) ? 1 : 0;
    }
  }

  bool follow() {
    if (engine_->over()) return false;
    if (engine_->adopted() && !begun_ && !adopt()) return false;
    if (begun_) count();
    return true;
  }

  // False: the log cannot be read any more, for another has claimed.
  bool adopt() {
    const LogPosition end = engine_->adopted_end();
    uint64_t from = engine_->floor();
    LogStore& source = *world_.views[engine_->holders().front()];
    while (from <= end.sequence) {
      const auto some = source.read(from, kReadBytesMax);
      const bool good = some && !some.value().empty();
      for (size_t i = 0; good && i < some.value().size() && from <= end.sequence; ++i, ++from) {
        log_[from] = some.value()[i].hash;
      }
      if (good && (from <= end.sequence || log_[end.sequence] == end.hash)) continue;
      world_.require(source.head().value().promised > engine_->epoch(), "no log is adopted");
      return false;
    }
    ++world_.adoptions;
    const uint64_t floor = engine_->floor();
    world_.require(floor <= world_.covered + 1, "more is trimmed than a checkpoint covers");
    for (const auto& [sequence, hash] : world_.committed) {  // nothing is lost
      if (world_.committed_by[sequence] > engine_->epoch() || sequence < floor) continue;
      const auto there = log_.find(sequence);
      world_.require(there != log_.end() && there->second == hash,
                     "entry " + std::to_string(sequence) + " is lost");
    }
    begun_ = true;
    if (world_.flaw == Flaw::serves_early) tell(end.sequence);
    const LogEntry opening = entry_after(end, engine_->epoch());
    opening_ = opening.header.sequence;
    log_[opening_] = opening.hash;
    engine_->begin(opening);
    return true;
  }

  void count() {
    const LogPosition end = engine_->committed();
    if (end.sequence <= told_) return;
    int have = 0;
    for (const auto& view : world_.views) {
      const auto some = view->read(end.sequence, 1);
      if (some && !some.value().empty() && some.value()[0].hash == end.hash) ++have;
      if (!some && some.error().is(Errc::not_found)) ++have;  // trimmed: it was there
    }
    world_.require(have >= world_.rules.commit, "told before a quorum has it");
    tell(end.sequence);
  }

  // Somebody acts on these entries: they are committed.
  void tell(uint64_t last) {
    for (const auto& [sequence, hash] : log_) {
      if (sequence <= told_ || sequence > last) continue;
      const auto [known, fresh] = world_.committed.try_emplace(sequence, hash);
      if (fresh) world_.committed_by[sequence] = engine_->epoch();
      world_.require(known->second == hash,
                     "entry " + std::to_string(sequence) + " is committed twice");
      world_.commits += fresh;
    }
    told_ = std::max(told_, last);
  }

  SimulatedWorld& world_;
  std::unique_ptr<QuorumEngine> engine_;
  std::vector<Site> sites_;
  bool begun_ = false;
  uint64_t opening_ = 0, told_ = 0;
  std::map<uint64_t, ChainHash> log_;  // from the floor on
};

}  // namespace datacloud::journal
