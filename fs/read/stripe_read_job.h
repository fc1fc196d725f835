// One read of blocks of one stripe: the state machine behind StripeReader::read_each.
//
// Events (a store answered, a block was opened or not, a decode finished, time passed) change the
// state under one lock; advance() then derives everything that follows: blocks to open, ranges to
// ask for, sets to decode, answers. Calls, decodes, opens and answers happen outside the lock.
//
// Each want is answered exactly once, by whichever of its direct read and its decode authenticates
// first, or with an error when both have ended.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "common/base/timer_thread.h"
#include "fs/read/degraded_read.h"
#include "fs/read/shard_source.h"
#include "fs/read/stripe_reader.h"

namespace datacloud {

// What the reads of one StripeReader share.
struct ReadShared {
  explicit ReadShared(StripeReader::Dependencies d)
      : deps(std::move(d)), slow(deps.sites), times(deps.sites, deps.config) {}

  result<std::shared_ptr<const ErasureCode>> code(const std::string& profile);
  // Passes on what was not reported during the last minute.
  void report(std::vector<pb::Damage>);

  StripeReader::Dependencies deps;
  SlowSites slow;
  ReadTimes times;
  TimerThread* timer = nullptr;  // lives as long as any read
  std::atomic<uint64_t> degraded_reads{0};

  std::mutex mutex;
  std::condition_variable idle;
  uint64_t reads = 0;  // StripeReadJob objects alive
  std::map<std::string, std::shared_ptr<const ErasureCode>> codes;
  std::map<std::string, MonotonicTime> reported;
};

class StripeReadJob : public std::enable_shared_from_this<StripeReadJob> {
 public:
  using Want = StripeReader::Want;
  using NotFound = StripeReader::NotFound;

  StripeReadJob(std::shared_ptr<ReadShared>, std::shared_ptr<const pb::Stripe>,
                std::shared_ptr<const ErasureCode>, std::vector<Want>, NotFound,
                StripeReader::OnBlock);
  ~StripeReadJob();
  void start();

 private:
  enum class Direct {
    idle,     // not asked for: its site is slow; the last resort
    asked,    // its range is on its way
    opening,  // being authenticated
    failed,   // an erasure, or bytes that do not authenticate
  };
  struct WantState {
    Slot slot;
    Direct direct = Direct::idle;
    bool answered = false;
    bool disputed = false;  // bytes that should have been right did not authenticate
    bool decoding = false;  // a job has it
    std::optional<Error> decode_error;
  };
  // What an event leads to, done outside the lock.
  struct Todo {
    std::vector<ShardCall> calls;
    std::vector<std::function<void()>> tasks;  // for the executor
    std::vector<std::pair<size_t, result<Bytes>>> answers;
    std::vector<pb::Damage> damage;
    MonotonicTime alarm_at = MonotonicTime::max();
  };
  // Bytes of a set of columns over one range, kept alive by `owners`.
  struct Inputs {
    std::vector<ByteView> shards;
    std::vector<SharedBytes> owners;
  };
  using Job = std::shared_ptr<DegradedRead>;

  // Direct path (stripe_read_job.cc).
  void ask_direct(Todo&);
  void advance(Todo&);
  void follow_direct(Todo&);
  void open_direct(std::vector<size_t> wants, Todo&);
  void opened(const std::vector<size_t>& wants, std::vector<result<Bytes>> results);
  void finish_hopeless(Todo&);
  void on_reply(const ShardCall&, result<ReadReply>);
  void on_alarm();
  void arm(Todo&);
  void answer(size_t want, result<Bytes>, Todo&);
  void perform(Todo&, bool on_executor);
  void issue(const ShardCall&);
  ByteRange range_of(size_t want) const;

  // Decoding (stripe_read_decode.cc).
  void start_jobs(Todo&);
  void step(const Job&, Todo&);
  void step_first(const Job&, Todo&);
  void step_search(const Job&, Todo&);
  bool fetch(ColumnSet, const ByteRange&, Todo&);
  void run(const Job&, ColumnSet, Todo&);
  void decode(const Job&, ColumnSet, const Inputs&, const std::vector<size_t>& wants);
  void fail(const Job&, const Error&);
  void blame(const DegradedRead&, ColumnSet good, const Inputs&, const std::vector<size_t>& wants);
  Inputs inputs(ColumnSet, const ByteRange&) const;
  ByteRange code_range(const ByteRange&) const;
  Error unreadable(Errc, const std::string& what) const;

  const std::shared_ptr<ReadShared> shared_;
  const std::shared_ptr<const pb::Stripe> record_;
  const std::shared_ptr<const ErasureCode> code_;
  const std::vector<Want> wants_;
  const NotFound not_found_;
  const StripeReader::OnBlock on_block_;
  const MonotonicTime started_;

  std::mutex mutex_;
  ShardSource source_;
  std::vector<WantState> states_;
  std::vector<Job> jobs_;
  size_t unanswered_;
  bool alarm_set_ = false;
};

}  // namespace datacloud
