// A stripe read's events and its direct path: one range read per column, opened on the executor,
// hedged when late.
#include "fs/read/stripe_read_job.h"

#include <fmt/format.h>

namespace datacloud {
namespace {

// Alarms are rounded up to this: thousands of pending hedges wake the timer a few times a second.
constexpr Duration kAlarmGrain = milliseconds(20);
constexpr size_t kOpenBatchBytes = 256u << 10;  // opened by one task: spreads over the threads

}  // namespace

StripeReadJob::StripeReadJob(std::shared_ptr<ReadShared> shared,
                             std::shared_ptr<const pb::Stripe> record,
                             std::shared_ptr<const ErasureCode> code, std::vector<Want> wants,
                             NotFound not_found, StripeReader::OnBlock on_block)
    : shared_(std::move(shared)),
      record_(std::move(record)),
      code_(std::move(code)),
      wants_(std::move(wants)),
      not_found_(not_found),
      on_block_(std::move(on_block)),
      started_(monotonic_now()),
      source_(*record_, *code_, shared_->deps.sites, shared_->slow, shared_->times,
              shared_->deps.local_site),
      states_(wants_.size()),
      unanswered_(wants_.size()) {
  std::lock_guard lock(shared_->mutex);
  ++shared_->reads;
}

StripeReadJob::~StripeReadJob() {
  std::lock_guard lock(shared_->mutex);
  if (--shared_->reads == 0) shared_->idle.notify_all();
}

ByteRange StripeReadJob::range_of(size_t want) const {
  return {states_[want].slot.offset, states_[want].slot.length};
}

void StripeReadJob::start() {
  Todo todo;
  {
    std::lock_guard lock(mutex_);
    for (size_t i = 0; i < wants_.size(); ++i) {
      auto slot = slot_of(*record_, *code_, wants_[i].slot);
      if (slot)
        states_[i].slot = slot.value();
      else
        answer(i, failure(slot.error()), todo);
    }
    ask_direct(todo);
    advance(todo);
  }
  perform(todo, false);
}

void StripeReadJob::ask_direct(Todo& todo) {
  std::vector<uint64_t> bytes(static_cast<size_t>(code_->k()));
  for (const WantState& w : states_)
    if (!w.answered) bytes[w.slot.column] += w.slot.length;
  source_.expect_late(bytes);
  // A slow site is left alone as long as the others suffice.
  const bool others_suffice = source_.prompt_count() >= code_->k();
  for (int c = 0; c < code_->k(); ++c) {
    std::vector<ByteRange> ranges;
    for (size_t i = 0; i < states_.size(); ++i) {
      WantState& w = states_[i];
      if (w.answered || static_cast<int>(w.slot.column) != c) continue;
      if (source_.late(c) && others_suffice) continue;
      w.direct = Direct::asked;
      ranges.push_back(range_of(i));
    }
    source_.want(c, std::move(ranges), monotonic_now(), todo.calls);
  }
}

void StripeReadJob::advance(Todo& todo) {
  if (unanswered_ > 0) {
    follow_direct(todo);
    start_jobs(todo);
    for (size_t i = 0; i < jobs_.size(); ++i) step(Job(jobs_[i]), todo);
    std::erase_if(jobs_, [](const Job& job) { return job->over; });
    finish_hopeless(todo);
  }
  if (unanswered_ == 0) source_.drop_data();
  todo.damage = source_.take_damage();
  arm(todo);
}

void StripeReadJob::follow_direct(Todo& todo) {
  std::vector<size_t> ready;
  for (size_t i = 0; i < states_.size(); ++i) {
    WantState& w = states_[i];
    const int c = static_cast<int>(w.slot.column);
    if (w.answered || w.direct == Direct::opening || w.direct == Direct::failed) continue;
    if (!source_.erased(c)) {
      if (!source_.covers(c, range_of(i))) continue;
      w.direct = Direct::opening;
      ready.push_back(i);
      continue;
    }
    w.direct = Direct::failed;
    if (source_.disproved(c)) w.disputed = true;
    if (source_.not_found(c) && not_found_ == NotFound::refetch)
      answer(i, failure(unreadable(Errc::stale, "a shard is gone")), todo);
  }
  open_direct(std::move(ready), todo);
}

void StripeReadJob::open_direct(std::vector<size_t> wants, Todo& todo) {
  for (size_t from = 0; from < wants.size();) {
    std::vector<size_t> batch;
    Inputs bytes;
    for (size_t size = 0; from < wants.size() && size < kOpenBatchBytes; ++from) {
      const size_t i = wants[from];
      batch.push_back(i);
      bytes.shards.push_back(
          source_.view(static_cast<int>(states_[i].slot.column), range_of(i), bytes.owners));
      size += states_[i].slot.length;
    }
    todo.tasks.push_back(
        [self = shared_from_this(), batch = std::move(batch), bytes = std::move(bytes)] {
          std::vector<result<Bytes>> results;
          for (size_t i = 0; i < batch.size(); ++i)
            results.push_back(
                self->shared_->deps.sealer.open(self->wants_[batch[i]].address, bytes.shards[i]));
          self->opened(batch, std::move(results));
        });
  }
}

void StripeReadJob::opened(const std::vector<size_t>& wants, std::vector<result<Bytes>> results) {
  Todo todo;
  {
    std::lock_guard lock(mutex_);
    for (size_t i = 0; i < wants.size(); ++i) {
      WantState& w = states_[wants[i]];
      if (results[i]) {
        answer(wants[i], std::move(results[i]), todo);
        continue;
      }
      w.direct = Direct::failed;
      w.disputed = true;
    }
    advance(todo);
  }
  perform(todo, true);
}

// A want whose decode has failed is lost once its direct read has ended too; a direct read not yet
// made is the last resort.
void StripeReadJob::finish_hopeless(Todo& todo) {
  for (size_t i = 0; i < states_.size(); ++i) {
    WantState& w = states_[i];
    if (w.answered || !w.decode_error) continue;
    if (w.direct == Direct::failed) answer(i, failure(*w.decode_error), todo);
    if (w.direct == Direct::idle) {
      w.direct = Direct::asked;
      source_.want(static_cast<int>(w.slot.column), {range_of(i)}, monotonic_now(), todo.calls);
    }
  }
}

void StripeReadJob::on_reply(const ShardCall& call, result<ReadReply> reply) {
  Todo todo;
  {
    std::lock_guard lock(mutex_);
    source_.accept(call, std::move(reply), monotonic_now());
    if (source_.not_found(call.column) && not_found_ == NotFound::erasure)
      source_.disprove(call.column, "missing");
    advance(todo);
  }
  perform(todo, false);
}

void StripeReadJob::on_alarm() {
  Todo todo;
  {
    std::lock_guard lock(mutex_);
    alarm_set_ = false;
    if (unanswered_ == 0) return;
    source_.mark_late(monotonic_now());
    advance(todo);
  }
  perform(todo, false);
}

void StripeReadJob::arm(Todo& todo) {
  if (alarm_set_ || unanswered_ == 0) return;
  const MonotonicTime due = source_.next_late();
  if (due == MonotonicTime::max()) return;
  alarm_set_ = true;
  todo.alarm_at = MonotonicTime((due.time_since_epoch() / kAlarmGrain + 1) * kAlarmGrain);
}

void StripeReadJob::answer(size_t want, result<Bytes> r, Todo& todo) {
  if (states_[want].answered) return;
  states_[want].answered = true;
  --unanswered_;
  todo.answers.emplace_back(want, std::move(r));
}

void StripeReadJob::perform(Todo& todo, bool on_executor) {
  if (todo.alarm_at != MonotonicTime::max())
    shared_->timer->schedule(todo.alarm_at, [weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->on_alarm();
    });
  auto& executor = shared_->deps.executor;
  for (auto& task : todo.tasks) executor.post(std::move(task));
  for (const ShardCall& call : todo.calls) issue(call);
  if (!todo.damage.empty()) shared_->report(std::move(todo.damage));
  if (todo.answers.empty()) return;
  if (on_executor) {
    for (auto& [want, r] : todo.answers) on_block_(want, std::move(r));
    return;
  }
  executor.post([self = shared_from_this(),
                 answers = std::make_shared<decltype(todo.answers)>(std::move(todo.answers))] {
    for (auto& [want, r] : *answers) self->on_block_(want, std::move(r));
  });
}

void StripeReadJob::issue(const ShardCall& call) {
  const auto round = milliseconds(shared_->deps.config.read_deadline_ms);
  OpOptions options;
  options.deadline = std::min(call.issued + round, started_ + 2 * round);
  options.purpose = Purpose::client;
  const pb::Shard& shard = record_->shards(call.column);
  const std::string name = shared_->deps.namer.object_name(
      {record_->id(), static_cast<uint8_t>(call.column), shard.instance()});
  call.site->store().read(name, call.ranges, false, options,
                          [self = shared_from_this(), call](result<ReadReply> reply) {
                            self->on_reply(call, std::move(reply));
                          });
}

}  // namespace datacloud
