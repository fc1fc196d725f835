// The journal as guarded objects (guarded_log.h).
//
// Invariants: only one operation that makes a segment the last one is under way at a time, and no
// append beside it; whatever guard fails or answer is lost, what the site says decides (settle).
#include "daemon/journal/guarded_log.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>

#include "daemon/journal/guarded_segments.h"
#include "daemon/journal/log_bytes.h"
#include "daemon/journal/read_marks.h"

namespace datacloud::journal {
namespace {

constexpr int kClaimersMax = 64;  // that are first, before a claim gives up

class GuardedLog final : public LogStore {
 public:
  GuardedLog(std::unique_ptr<GuardedObjects> objects, GuardedLogOptions options)
      : options_(options), objects_(std::move(objects)), segments_(*objects_, options.journal) {}

  ~GuardedLog() override {
    std::unique_lock lock(mutex_);
    failed_ = true;
    idle_.wait(lock,
               [this] { return in_flight_ == 0 && !exclusive_ && queue_.empty() && !pumping_; });
  }

  result<LogHead> head() override {
    TRY(const auto tail, segments_.tail(hint()));
    return head_of(tail);
  }

  result<LogHead> claim(const Epoch& epoch) override {
    if (epoch.number == 0 || epoch.number > kEpochNumberMax) {
      return failure(Errc::invalid, "not the number of an epoch");
    }
    std::lock_guard one(calls_);
    for (int attempt = 0; attempt < kClaimersMax; ++attempt) {
      TRY(auto tail, segments_.tail(hint()));
      if (tail.successor == kSealed)
        return failure(Errc::revoked, at("the journal here is sealed"));
      if (tail.promised == epoch) {
        std::lock_guard lock(mutex_);
        if (epoch_ != epoch) failed_ = true;
        epoch_ = epoch;
        hint_ = tail.name;
        return head_of(tail);
      }
      if (tail.promised.number >= epoch.number) {
        return failure(Errc::stale, at("epoch " + epoch_text(tail.promised) + " is promised"));
      }
      GuardedChange promise;
      promise.guards = {{"successor", AttributeGuard::Is::same, kNoSuccessor, 0},
                        {"epoch", AttributeGuard::Is::below, "", epoch.number}};
      promise.set = promise_attributes(epoch);
      auto done = segments_.change(tail.name, std::move(promise));
      if (!done && !done.error().is(Errc::stale) && !done.error().is(Errc::not_found)) {
        return failure(done.error());
      }
    }
    return failure(Errc::unavailable, at("others claim all the time"));
  }

  result<void> begin(const Epoch& epoch, const LogPosition& base, Base where) override {
    std::lock_guard one(calls_);
    Exclusive alone(*this, true);
    TRY(const auto tail, led_tail(epoch));
    if (base.epoch > epoch) return failure(Errc::invalid, "the base is of a later epoch");
    GuardedSegment next;
    next.floor = tail.floor;
    if (where == Base::checkpoint) {
      next.floor = std::max(next.floor, base.sequence + 1);
    } else {
      TRY(find_base(tail, base, next.header));
    }
    next.header.base = base;
    next.header.ordinal = tail.header.ordinal + 1;
    TRY(const size_t unit, objects_->append_unit());
    TRY(prepare(next, epoch, unit));
    TRY(segments_.create(next));
    auto linked =
        segments_.change(tail.name, {leader_guards(epoch), {{"successor", next.name}}, {}});
    if (!linked) {
      if (refused(linked.error())) (void)segments_.remove(next.name);
      return linked;
    }
    std::lock_guard lock(mutex_);
    use(next);
    return success();
  }

  void append(const Epoch& epoch, LogBatch batch, Done done) override {
    {
      std::unique_lock lock(mutex_);
      if (queue_.size() + in_flight_ >= kAppendsMax) {
        lock.unlock();
        return done(failure(Errc::invalid, at("more than 64 appends under way")));
      }
      queue_.push_back({epoch, std::move(batch), std::move(done)});
    }
    pump();
  }

  result<LogHead> settle(const Epoch& epoch) override {
    std::lock_guard one(calls_);
    Exclusive alone(*this, true);
    TRY(const auto tail, led_tail(epoch));
    if (tail.header.epoch != epoch) {
      return failure(Errc::stale, at("the epoch has not begun here"));
    }
    std::lock_guard lock(mutex_);
    use(tail);
    return head_of(tail);
  }

  result<std::vector<LogEntry>> read(uint64_t from, size_t bytes_max) override {
    from = std::max<uint64_t>(from, 1);
    TRY(const auto tail, segments_.tail(hint()));
    if (from < tail.floor) {
      return failure(Errc::not_found, at("entries below " + std::to_string(tail.floor) +
                                         " were trimmed; a checkpoint has them"));
    }
    TRY(auto chain, segments_.chain(tail, from));
    std::reverse(chain.begin(), chain.end());
    std::vector<LogEntry> out;
    if (chain.front().header.base.sequence >= from) {
      return failure(Errc::corrupt, at("entry " + std::to_string(from) + " is missing"));
    }
    size_t bytes = 0;
    bool full = false;
    for (size_t i = 0; i < chain.size() && !full; ++i) {
      const auto mark = marks_.before(chain[i].name, from, chain[i].limit);
      const auto sink = [&](LogEntry entry) {
        if (entry.header.sequence < from) return true;
        if (!out.empty() && bytes + entry.bytes->size() > std::min(bytes_max, kReadBytesMax)) {
          full = true;
          return false;
        }
        bytes += entry.bytes->size();
        out.push_back(std::move(entry));
        return true;
      };
      TRY(const auto end, segments_.scan(chain[i], sink, mark));
      if (!full) marks_.note(chain[i].name, mark, {end.last, end.bytes});
      const LogPosition& expected = i + 1 < chain.size() ? chain[i + 1].header.base : chain[i].last;
      if (!full && end.last.sequence < expected.sequence) {
        return failure(Errc::corrupt, at(chain[i].name + " is damaged behind entry " +
                                         std::to_string(end.last.sequence)));
      }
    }
    return out;
  }

  result<void> trim(const Epoch& epoch, uint64_t floor) override {
    std::lock_guard one(calls_);
    GuardedSegment tail;
    {
      Exclusive alone(*this, false);
      TRY(tail, led_tail(epoch));
      if (tail.floor < floor) {
        GuardedChange raise{leader_guards(epoch), {{"floor", std::to_string(floor)}}, {}};
        raise.guards.push_back(
            {"floor", AttributeGuard::Is::below, "", floor});  // if it lands late
        TRY(segments_.change(tail.name, std::move(raise)));
        std::lock_guard lock(mutex_);
        floor_ = std::max(floor_, floor);
      }
    }
    TRY(const auto chain, segments_.chain(tail, 0));
    size_t kept = 1;
    while (kept < chain.size() && chain[kept - 1].header.base.sequence + 1 > floor) ++kept;
    TRY(segments_.move_anchor(chain[kept - 1]));
    // The oldest first: what an interrupted trim leaves is reached from what stays.
    for (size_t i = chain.size(); i > kept; --i) {
      TRY(segments_.remove(chain[i - 1].name));
    }
    return success();
  }

  result<void> seal(const Epoch& epoch) override {
    std::lock_guard one(calls_);
    Exclusive alone(*this, true);
    TRY(const auto tail, segments_.tail(hint()));
    if (tail.successor == kSealed && tail.promised == epoch) return success();
    return segments_.change(tail.name, {leader_guards(epoch), {{"successor", kSealed}}, {}});
  }

 private:
  struct Waiting {
    Epoch epoch;
    LogBatch batch;
    Done done;
  };

  // While it lives no append starts and none is under way. `fails`: appends that wait meanwhile,
  // and later ones until use(), are refused.
  class Exclusive {
   public:
    Exclusive(GuardedLog& log, bool fails) : log_(log) {
      std::unique_lock lock(log_.mutex_);
      log_.idle_.wait(lock, [&] { return !log_.exclusive_; });
      log_.exclusive_ = true;
      if (fails) log_.failed_ = true;
      log_.idle_.wait(lock, [&] { return log_.in_flight_ == 0; });
    }
    ~Exclusive() { log_.leave_exclusive(); }

   private:
    GuardedLog& log_;
  };

  void leave_exclusive() {
    {
      std::lock_guard lock(mutex_);
      exclusive_ = false;
      idle_.notify_all();
      ++in_flight_;  // this stays while pump runs
    }
    pump();
    std::lock_guard lock(mutex_);
    --in_flight_;
    idle_.notify_all();
  }

  std::string at(const std::string& text) const { return objects_->location() + ": " + text; }

  std::string hint() {
    std::lock_guard lock(mutex_);
    return hint_;
  }

  LogHead head_of(const GuardedSegment& tail) const {
    return {options_.journal, tail.promised, tail.header.epoch,
            tail.last,        tail.floor,    tail.successor == kSealed};
  }

  // The last segment, with this epoch's promise.
  result<GuardedSegment> led_tail(const Epoch& epoch) {
    TRY(auto tail, segments_.tail(hint()));
    if (tail.successor == kSealed) return failure(Errc::revoked, at("the journal here is sealed"));
    if (tail.promised != epoch) {
      return failure(Errc::stale, at("epoch " + epoch_text(tail.promised) + " is promised"));
    }
    return tail;
  }

  result<void> find_base(const GuardedSegment& tail, const LogPosition& base,
                         SegmentHeader& header) {
    TRY(const auto chain, segments_.chain(tail, base.sequence));
    for (const auto& segment : chain) {
      if (segment.header.base.sequence > base.sequence) continue;
      GuardedSegments::End end{segment.header.base, 0};
      if (end.last.sequence < base.sequence) {
        TRY(end, segments_.scan(segment, [&](LogEntry entry) {
          return entry.header.sequence < base.sequence;
        }));
      }
      if (end.last != base) break;
      header.previous = segment.name;
      header.previous_bytes = end.bytes;
      return success();
    }
    return failure(Errc::invalid, at("entry " + std::to_string(base.sequence) +
                                     " is not in the log, or is another one there"));
  }

  // Fills in what all new segments have in common. Each gets a name that was never used.
  result<void> prepare(GuardedSegment& next, const Epoch& epoch, size_t unit) {
    if (unit > kAppendUnitMax) return failure(Errc::unsupported, at("appends of such a unit"));
    next.header.unit = static_cast<uint32_t>(round_up(unit, kEntryPaddingBytes));
    next.header.journal = options_.journal;
    next.header.epoch = next.promised = epoch;
    next.last = next.header.base;
    next.name = std::string(kAnchorName) + "-" + epoch_text(epoch) + "-" + std::to_string(names_++);
    return success();
  }

  // With mutex_ held: appends go on at the end of this segment.
  void use(const GuardedSegment& tail) {
    epoch_ = tail.promised;
    hint_ = tail_ = tail.name;
    header_ = tail.header;
    last_ = tail.last;
    used_ = tail.size;
    floor_ = std::max(floor_, tail.floor);
    failed_ = false;
  }

  // Why a batch is not what comes next, or nothing. With mutex_ held.
  std::optional<Error> objection(const Waiting& next) const {
    if (epoch_ != next.epoch) {
      return Error(Errc::stale, at("epoch " + epoch_text(next.epoch) + " has not claimed here"));
    }
    if (failed_) return Error(Errc::stale, at("an append failed; settle it first"));
    const LogBatch& batch = next.batch;
    if (batch.empty() || batch.journal() != options_.journal || batch.last().epoch > epoch_) {
      return Error(Errc::invalid, at("not a batch of this journal and epoch"));
    }
    if (batch.first() != last_.sequence + 1 || batch.previous() != last_.hash) {
      return Error(Errc::stale, at("the log ends at " + std::to_string(last_.sequence) +
                                   ", the append begins at " + std::to_string(batch.first())));
    }
    return std::nullopt;
  }

  // Starts what waits, in order, one thread at a time.
  void pump() {
    std::unique_lock lock(mutex_);
    if (pumping_) return;
    pumping_ = true;
    while (!queue_.empty() && !exclusive_) {
      const auto why = objection(queue_.front());
      const size_t bytes = why ? 0 : round_up(queue_.front().batch.bytes()->size(), header_.unit);
      if (!why && used_ > 0 && used_ + bytes > options_.segment_bytes) {
        roll(lock);
        continue;
      }
      Waiting next = std::move(queue_.front());
      queue_.pop_front();
      if (why) {
        lock.unlock();
        next.done(failure(*why));
        lock.lock();
        continue;
      }
      start(std::move(next), bytes, lock);
    }
    pumping_ = false;
    idle_.notify_all();
  }

  void start(Waiting next, size_t bytes, std::unique_lock<std::mutex>& lock) {
    GuardedChange change;
    change.guards = leader_guards(epoch_);
    change.guards.push_back(next_guard(next.batch.first()));
    change.set = position_attributes(next.batch.last());
    change.append = next.batch.bytes();
    if (bytes != change.append->size()) {
      auto padded = std::make_shared<Bytes>(*change.append);
      padded->resize(bytes, 0);
      change.append = std::move(padded);
    }
    last_ = next.batch.last();
    used_ += bytes;
    ++in_flight_;
    const std::string name = tail_;
    lock.unlock();
    objects_->change(name, std::move(change), [this, done = std::move(next.done)](result<void> r) {
      if (!r) {
        std::lock_guard failing(mutex_);
        failed_ = true;
      }
      // A segment that is gone was superseded and trimmed.
      if (!r && r.error().is(Errc::not_found)) {
        done(failure(Errc::stale, r.error().text()));
      } else {
        done(std::move(r));
      }
      std::lock_guard landed(mutex_);
      --in_flight_;
      idle_.notify_all();
    });
    lock.lock();
  }

  // Makes the next segment and the last one point to it. Appends wait; a failure fails them.
  void roll(std::unique_lock<std::mutex>& lock) {
    auto next = std::make_shared<GuardedSegment>();
    next->header.base = last_;
    next->header.ordinal = header_.ordinal + 1;
    next->header.previous = tail_;
    next->header.previous_bytes = used_;
    next->floor = floor_;
    exclusive_ = true;
    if (!prepare(*next, epoch_, header_.unit)) {
      exclusive_ = false;
      failed_ = true;
      return;
    }
    const std::string old = tail_;
    GuardedChange link;
    link.guards = leader_guards(epoch_);
    link.guards.push_back(next_guard(last_.sequence + 1));
    link.set = {{"successor", next->name}};
    lock.unlock();
    objects_->create(next->name, segment_attributes(*next),
                     [this, next, old, link](result<void> r) {
                       if (!r) return rolled(*next, false);
                       objects_->change(old, link, [this, next](result<void> linked) {
                         rolled(*next, static_cast<bool>(linked));
                       });
                     });
    lock.lock();
  }

  void rolled(const GuardedSegment& next, bool good) {
    {
      std::lock_guard lock(mutex_);
      if (good && !failed_) {
        use(next);
      } else {
        failed_ = true;
      }
    }
    leave_exclusive();
  }

  const GuardedLogOptions options_;
  const std::unique_ptr<GuardedObjects> objects_;
  GuardedSegments segments_;
  ReadMarks marks_;
  std::mutex calls_;  // one blocking call that changes something at a time

  std::mutex mutex_;
  std::condition_variable idle_;
  Epoch epoch_;       // the one claimed here
  std::string hint_;  // a segment from which the last one is near
  std::string tail_;  // appended to
  SegmentHeader header_;
  LogPosition last_;  // once what is under way has landed
  uint64_t used_ = 0;
  uint64_t floor_ = 1;
  uint64_t names_ = 0;
  bool failed_ = true;  // appends are refused until use()
  bool exclusive_ = false;
  bool pumping_ = false;
  size_t in_flight_ = 0;
  std::deque<Waiting> queue_;
};

}  // namespace

result<void> format_guarded_log(GuardedObjects& objects, const GuardedLogOptions& options) {
  return GuardedSegments(objects, options.journal).format();
}

std::unique_ptr<LogStore> make_guarded_log(std::unique_ptr<GuardedObjects> objects,
                                           GuardedLogOptions options) {
  return std::make_unique<GuardedLog>(std::move(objects), options);
}

}  // namespace datacloud::journal
