// The threads around a QuorumEngine (quorum_log.h): one per site makes the calls that the engine
// asks for, but for small appends, which who has them gives to the site; one more tells who waits.
//
// Appends are answered on threads of the stores, after the log's end too: what they touch is
// Shared, which holds no store, for a store must not be destroyed on its own thread.
#include "daemon/journal/quorum_log.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include "common/base/check.h"
#include "common/base/log.h"
#include "daemon/journal/quorum_engine.h"

namespace datacloud::journal {
namespace {

constexpr auto kPoll = milliseconds(200);  // of `cancelled`, and of members' clocks
// So few bytes are given to a site by whoever appends them; more are left to the site's thread.
constexpr uint64_t kGivenHereBytesMax = uint64_t{64} << 10;

uint64_t random_nonce() {
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

EngineOptions engine_options(const QuorumLogOptions& options) {
  EngineOptions out;
  out.journal = options.journal;
  for (const auto& member : options.members) out.names.push_back(member.name);
  out.rules = options.rules;
  out.kept_bytes_max = options.kept_bytes_max;
  out.nonce = random_nonce;
  return out;
}

struct LogShared {
  explicit LogShared(const QuorumLogOptions& options)
      : engine(engine_options(options)), wakes(options.members.size()) {}

  mutable std::mutex mutex;
  QuorumEngine engine;
  bool stop = false;
  // Waited for by a member's thread; whether something has changed since it last looked.
  struct Wake {
    std::condition_variable changed;
    bool look = true;
  };
  std::deque<Wake> wakes;
  std::condition_variable told;  // who claims, begins, or tells others
  std::multimap<uint64_t, std::function<void(result<void>)>> waiting;  // for a sequence
  bool begun = false;                                                  // something was committed
  bool claimed = false;  // the caller has the log: it is told when the leadership ends

  // All with the mutex held. After anything may have changed:
  void notify() {
    for (Wake& wake : wakes) notify(wake);
    told.notify_all();
  }
  void notify(Wake& wake) {
    wake.look = true;
    wake.changed.notify_one();
  }
  // After a site has taken entries.
  void notify_taken(size_t member) {
    if (engine.takes_append(member)) notify(wakes[member]);
    const bool due = !waiting.empty() && waiting.begin()->first <= engine.committed().sequence;
    if (due || !begun) told.notify_all();
    begun = begun || engine.committed().sequence > 0;
  }
};

class SiteQuorumLog final : public QuorumLog {
 public:
  explicit SiteQuorumLog(QuorumLogOptions options)
      : options_(std::move(options)),
        shared_(std::make_shared<LogShared>(options_)),
        orders_(options_.members.size()) {
    for (size_t i = 0; i < options_.members.size(); ++i) {
      threads_.emplace_back([this, i] { serve(i); });
    }
    threads_.emplace_back([this] { tell(); });
  }

  ~SiteQuorumLog() override {
    {
      std::lock_guard lock(shared_->mutex);
      shared_->stop = true;
      shared_->notify();
    }
    for (auto& thread : threads_) thread.join();
  }

  result<void> wait_adopted() {
    auto got = wait([](const QuorumEngine& engine) { return engine.adopted(); });
    if (got) {
      std::lock_guard lock(shared_->mutex);
      shared_->claimed = true;
      shared_->told.notify_all();
    }
    if (got || !got.error().is(Errc::unavailable)) return got;
    return failure(got.error().in("claiming the journal, which needs " +
                                  std::to_string(options_.rules.adopt) + " of its " +
                                  std::to_string(options_.rules.sites) + " sites"));
  }

  const Epoch& epoch() const override { return shared_->engine.epoch(); }  // fixed by now

  LogPosition adopted() const override {
    std::lock_guard lock(shared_->mutex);
    return shared_->engine.adopted_end();
  }

  uint64_t floor() const override {
    std::lock_guard lock(shared_->mutex);
    return shared_->engine.floor();
  }

  result<bool> contains(const LogPosition& position) override {
    TRY(const auto found, find(position.sequence));
    return found && found->hash == position.hash;
  }

  result<void> read(uint64_t from,
                    const std::function<result<void>(const LogEntry&)>& sink) override {
    const LogPosition end = adopted();
    from = std::max<uint64_t>(from, 1);
    if (from < floor()) return failure(below_floor(from));
    LogPosition last;  // of what was read; none: sequence 0
    while (from <= end.sequence) {
      TRY(const auto entries, read_some(from, kReadBytesMax, last));
      for (const LogEntry& entry : entries) {
        if (entry.header.sequence > end.sequence) return success();
        TRY(sink(entry));
        last = entry.position();
        ++from;
      }
    }
    return success();
  }

  result<void> rewind(const LogPosition& to) override {
    TRY(const auto found, find(to.sequence));
    if (!found || found->hash != to.hash) {
      return failure(Errc::invalid, "entry " + std::to_string(to.sequence) +
                                        " of the journal is another one, or is not there");
    }
    std::lock_guard lock(shared_->mutex);
    shared_->engine.rewind(to.sequence >= shared_->engine.floor() ? *found : to);
    return success();
  }

  result<void> begin(const LogEntry& opening) override {
    {
      std::lock_guard lock(shared_->mutex);
      QuorumEngine& engine = shared_->engine;
      if (!continues(opening, options_.journal, engine.adopted_end()) ||
          opening.header.epoch != engine.epoch()) {
        return failure(Errc::invalid, "the opening entry does not continue the adopted log");
      }
      if (engine.over()) return failure(*engine.over());
      engine.begin(opening);
      shared_->notify();
    }
    const uint64_t sequence = opening.header.sequence;
    auto got =
        wait([sequence](const QuorumEngine& e) { return e.committed().sequence >= sequence; });
    if (got || !got.error().is(Errc::unavailable)) return got;
    return failure(got.error().in("beginning the journal's epoch, which needs " +
                                  std::to_string(options_.rules.commit) + " of its " +
                                  std::to_string(options_.rules.sites) + " sites"));
  }

  void append(LogEntry entry) override {
    std::vector<LogEntry> one;
    one.push_back(std::move(entry));
    append_all(std::move(one));
  }

  void append_all(std::vector<LogEntry> entries) override {
    {
      std::lock_guard lock(shared_->mutex);
      for (auto& entry : entries) take(std::move(entry));
    }
    give();
  }

  LogPosition committed() const override {
    std::lock_guard lock(shared_->mutex);
    return shared_->engine.committed();
  }

  void when_committed(uint64_t sequence, std::function<void(result<void>)> done) override {
    std::lock_guard lock(shared_->mutex);
    shared_->waiting.emplace(sequence, std::move(done));
    const QuorumEngine& engine = shared_->engine;
    if (engine.over() || sequence <= engine.committed().sequence) shared_->told.notify_all();
  }

  uint64_t uncommitted_bytes() const override {
    std::lock_guard lock(shared_->mutex);
    return shared_->engine.uncommitted_bytes();
  }

  void trim(uint64_t floor) override {
    std::lock_guard lock(shared_->mutex);
    shared_->engine.trim(floor);
    shared_->notify();
  }

  std::vector<MemberState> members() const override {
    std::lock_guard lock(shared_->mutex);
    return states();
  }

  std::shared_ptr<LogStore> log_at(int site) const override {
    const auto member = member_at(site);
    return member ? options_.members[*member].log : nullptr;
  }

  bool rewrite(int site) override {
    const auto member = member_at(site);
    if (!member) return false;
    std::lock_guard lock(shared_->mutex);
    const bool begins = shared_->engine.rewrite(*member);
    shared_->notify();
    return begins;
  }

 private:
  std::optional<size_t> member_at(int site) const {
    for (size_t i = 0; i < options_.members.size(); ++i) {
      if (options_.members[i].site == site) return i;
    }
    return std::nullopt;
  }

  void take(LogEntry entry) {  // with the mutex held
    QuorumEngine& engine = shared_->engine;
    if (engine.over()) return;
    DC_CHECK(continues(entry, options_.journal, engine.last()) &&
             entry.header.epoch == engine.epoch());
    engine.append(std::move(entry));
  }

  // Gives what has come to the sites that can take it, or wakes their threads. Waking threads costs
  // more than the rest of an append of a few entries.
  void give() {
    for (size_t i = 0; i < options_.members.size(); ++i) {
      std::unique_lock order(orders_[i], std::try_to_lock);
      std::unique_lock lock(shared_->mutex);
      QuorumEngine& engine = shared_->engine;
      if (!engine.takes_append(i)) continue;
      std::optional<LogRequest> call;
      if (order) call = engine.next_append(i, kGivenHereBytesMax, monotonic_now());
      if (!call) shared_->notify(shared_->wakes[i]);
      lock.unlock();
      if (call) make(std::move(*call));
    }
  }

  std::vector<MemberState> states() const {  // with the mutex held
    std::vector<MemberState> out;
    for (size_t i = 0; i < options_.members.size(); ++i) {
      out.push_back(shared_->engine.state(i, monotonic_now()));
      out.back().site = options_.members[i].site;
    }
    return out;
  }

  // Until `ready`, the end of the leadership, or no progress for the deadline.
  template <class Ready>
  result<void> wait(Ready ready) {
    std::unique_lock lock(shared_->mutex);
    const QuorumEngine& engine = shared_->engine;
    uint64_t progress = engine.progress();
    auto until = monotonic_now() + options_.claim_deadline;
    for (;;) {
      if (engine.over()) return failure(*engine.over());
      if (ready(engine)) return success();
      if (options_.cancelled) {
        lock.unlock();
        const bool cancelled = options_.cancelled();
        lock.lock();
        if (cancelled) return failure(Errc::unavailable, "given up: the program ends");
      }
      const auto now = monotonic_now();
      if (engine.adopted() && progress != engine.progress()) {
        progress = engine.progress();
        until = now + options_.claim_deadline;
      }
      if (now >= until) return failure(Errc::unavailable, "too few answer: " + reasons());
      shared_->told.wait_until(lock, std::min(until, now + kPoll));
    }
  }

  std::string reasons() const {  // with the mutex held
    std::string out;
    for (const auto& state : states()) {
      if (state.reason.empty()) continue;
      out += (out.empty() ? "" : "; ") + state.name + ": " + state.reason;
    }
    return out.empty() ? "no site has failed; all are slow" : out;
  }

  Error below_floor(uint64_t sequence) const {
    return Error(Errc::not_found, "entry " + std::to_string(sequence) +
                                      " of the journal was trimmed; a checkpoint has it");
  }

  // Of the adopted log. Nothing: it ends before that.
  result<std::optional<LogPosition>> find(uint64_t sequence) {
    const LogPosition end = adopted();
    const uint64_t low = floor();
    using Found = std::optional<LogPosition>;
    if (sequence > end.sequence) return Found();
    if (sequence == end.sequence) return Found(end);
    if (sequence + 1 < low) return failure(below_floor(sequence));
    if (sequence == 0) return Found(LogPosition());
    TRY(const auto entries, read_some(std::max(sequence, low), 1, {}));
    const LogEntry& entry = entries.front();
    if (sequence >= low) return Found(entry.position());
    return Found(LogPosition{entry.header.epoch, sequence, entry.header.previous});
  }

  // At least one entry, behind `last` if that is known, from the first site that has them.
  result<std::vector<LogEntry>> read_some(uint64_t from, size_t bytes, const LogPosition& last) {
    std::vector<size_t> holders;
    LogPosition end;
    {
      std::lock_guard lock(shared_->mutex);
      holders = shared_->engine.holders();
      end = shared_->engine.adopted_end();
    }
    Error why;
    for (const size_t holder : holders) {
      auto got = options_.members[holder].log->read(from, bytes);
      if (got && follow(got.value(), from, last, end)) return got;
      const Error error =
          got ? Error(Errc::corrupt, "the log is not what it was") : Error(got.error());
      why = error.in("journal of " + options_.members[holder].name);
      spdlog::warn("{}", why.message());
    }
    return failure(why);
  }

  bool follow(const std::vector<LogEntry>& entries, uint64_t from, LogPosition last,
              const LogPosition& end) const {
    if (entries.empty() || entries.front().header.sequence != from) return false;
    for (const LogEntry& entry : entries) {
      if (last.sequence > 0 && !continues(entry, options_.journal, last)) return false;
      last = entry.position();
      if (last.sequence == end.sequence && last.hash != end.hash) return false;
    }
    return true;
  }

  // The thread of one member.
  void serve(size_t member) {
    LogShared::Wake& wake = shared_->wakes[member];
    for (;;) {
      std::unique_lock order(orders_[member]);
      std::unique_lock lock(shared_->mutex);
      if (shared_->stop) return;
      wake.look = false;
      auto call = shared_->engine.next(member, monotonic_now());
      if (!call) {
        order.unlock();
        wake.changed.wait_for(lock, wait_of(member), [&] { return wake.look || shared_->stop; });
        continue;
      }
      lock.unlock();
      if (call->kind != LogRequest::Kind::append) order.unlock();
      make(std::move(*call));
    }
  }

  Duration wait_of(size_t member) const {
    const Duration left = shared_->engine.wake_at(member) - monotonic_now();
    return left > Duration(0) ? std::min<Duration>(left, kPoll) : Duration(kPoll);
  }

  void make(LogRequest call) {
    LogStore& log = *options_.members[call.store].log;
    switch (call.kind) {
      case LogRequest::Kind::append: {
        auto batch = batch_of(call.entries);
        if (!batch) return answer(*shared_, call, failure(batch.error()));
        call.entries.clear();
        const Epoch epoch = call.epoch;
        return log.append(epoch, std::move(batch).value(),
                          [shared = shared_, call = std::move(call)](const result<void>& done) {
                            if (done) return answer(*shared, call, LogReply());
                            answer(*shared, call, failure(done.error()));
                          });
      }
      case LogRequest::Kind::head:
        return answer_head(call, log.head());
      case LogRequest::Kind::claim:
        return answer_head(call, log.claim(call.epoch));
      case LogRequest::Kind::settle:
        return answer_head(call, log.settle(call.epoch));
      case LogRequest::Kind::begin:
        return answer_done(call, log.begin(call.epoch, call.base, call.where));
      case LogRequest::Kind::trim:
        return answer_done(call, log.trim(call.epoch, call.floor));
      case LogRequest::Kind::read: {
        auto got = log.read(call.from, call.bytes_max);
        if (!got) return answer(*shared_, call, failure(got.error()));
        return answer(*shared_, call, LogReply{{}, std::move(got).value()});
      }
    }
  }

  // Sites that keep up with each other are given the same batch: it is put together once. Keeps the
  // newest one, of at most kBatchBytesMax, until all sites have had it.
  result<LogBatch> batch_of(const std::vector<LogEntry>& entries) {
    std::lock_guard lock(batch_mutex_);
    const bool same = !newest_batch_.empty() && !entries.empty() &&
                      newest_batch_.first() == entries.front().header.sequence &&
                      newest_batch_.last() == entries.back().position();
    if (!same) {
      TRY(newest_batch_, LogBatch::of(entries));
      batch_takers_ = 0;
    }
    if (++batch_takers_ < options_.members.size()) return newest_batch_;
    return std::exchange(newest_batch_, LogBatch());
  }

  void answer_head(const LogRequest& call, const result<LogHead>& head) {
    if (!head) return answer(*shared_, call, failure(head.error()));
    answer(*shared_, call, LogReply{head.value(), {}});
  }
  void answer_done(const LogRequest& call, const result<void>& done) {
    answer(*shared_, call, done ? result<LogReply>(LogReply()) : failure(done.error()));
  }

  static void answer(LogShared& shared, const LogRequest& call, result<LogReply> reply) {
    std::lock_guard lock(shared.mutex);
    const bool was_away = shared.engine.trouble(call.member).has_value();
    const bool plain =
        call.kind == LogRequest::Kind::append && reply && !was_away && !shared.engine.reads_back();
    shared.engine.answer(call, std::move(reply), monotonic_now());
    if (plain) return shared.notify_taken(call.member);
    const auto& trouble = shared.engine.trouble(call.member);
    if (trouble && !was_away) {
      spdlog::warn("journal: {}: {}", shared.engine.name(call.member), trouble->message());
    } else if (!trouble && was_away) {
      spdlog::info("journal: {}: is back", shared.engine.name(call.member));
    }
    shared.notify();
  }

  // The thread that runs callbacks.
  void tell() {
    std::unique_lock lock(shared_->mutex);
    const QuorumEngine& engine = shared_->engine;
    bool fenced = false;
    for (;;) {
      if (engine.over() && shared_->claimed && !fenced) {
        fenced = true;
        const Error error = *engine.over();
        lock.unlock();
        if (options_.fenced) options_.fenced(error);
        lock.lock();
        continue;
      }
      const auto first = shared_->waiting.begin();
      if (first == shared_->waiting.end()) {
        if (shared_->stop) return;
        shared_->told.wait(lock);
        continue;
      }
      result<void> answer = success();
      if (first->first > engine.committed().sequence) {
        if (engine.over()) {
          answer = failure(*engine.over());
        } else if (shared_->stop) {
          answer = failure(Errc::unavailable, "the journal is closed");
        } else {
          shared_->told.wait(lock);
          continue;
        }
      }
      const auto done = std::move(first->second);
      shared_->waiting.erase(first);
      lock.unlock();
      done(std::move(answer));
      lock.lock();
    }
  }

  const QuorumLogOptions options_;
  const std::shared_ptr<LogShared> shared_;
  // By member, in front of the mutex above: held from taking an append until the site has it.
  std::deque<std::mutex> orders_;
  std::mutex batch_mutex_;
  LogBatch newest_batch_;
  size_t batch_takers_ = 0;
  std::vector<std::thread> threads_;
};

}  // namespace

result<std::unique_ptr<QuorumLog>> QuorumLog::claim(QuorumLogOptions options) {
  const size_t sites = options.members.size();
  if (sites == 0 || sites > kJournalSitesMax || sites != static_cast<size_t>(options.rules.sites)) {
    return failure(Errc::invalid, "a journal at " + std::to_string(sites) + " sites");
  }
  auto log = std::make_unique<SiteQuorumLog>(std::move(options));
  TRY(log->wait_adopted());
  return std::unique_ptr<QuorumLog>(std::move(log));
}

}  // namespace datacloud::journal
