// Ordering, batching and failure of commits. What a commit says is in commit_request.cc.
#include "fs/write/commit_queue.h"

#include <algorithm>
#include <utility>

#include "common/base/out_of_space.h"
#include "common/rpc/inline_limits.h"
#include "fs/write/commit_request.h"

namespace datacloud {
namespace {

constexpr int kCommitsInFlightMax = 2;
constexpr size_t kCommitJobsMax = 256;
constexpr size_t kCommitStripesMax = 16;
constexpr int kRedoMax = 8;
constexpr uint64_t kCommitRecordBytesMax = kCommitPieceBytesMax / 2;  // and one unit more

// The daemon refused the transaction. After any other error it may have been executed (the reply
// was lost, or the session ended before it was sent again).
bool certainly_refused(const Error& e) {
  return e.is(Errc::stale) || e.is(Errc::invalid) || e.is(Errc::unsupported) || is_out_of_space(e);
}

bool brings_stripes(const std::vector<std::shared_ptr<WriteJob>>& batch) {
  return std::any_of(batch.begin(), batch.end(), [](const auto& job) { return job->stripe; });
}

}  // namespace

bool CommitQueue::admit(const std::shared_ptr<WriteUnit>& unit) {
  std::lock_guard lock(mutex_);
  ++units_;
  const auto failing = failing_.find(unit->flush.ino);
  if (failing != failing_.end()) {
    answer(unit, failing->second.error);
    return false;
  }
  pending_[unit->flush.ino].push_back(unit);
  return true;
}

void CommitQueue::fail_unit(const std::shared_ptr<WriteUnit>& unit, const Error& error) {
  std::unique_lock lock(mutex_);
  fail_from(unit, error);
  pump(lock);
}

bool CommitQueue::answered(const WriteUnit& unit) const {
  std::lock_guard lock(mutex_);
  return unit.answered;
}

void CommitQueue::enqueue(std::shared_ptr<WriteJob> job) {
  std::lock_guard lock(mutex_);
  jobs_.push_back(std::move(job));
}

void CommitQueue::ready(const std::shared_ptr<WriteJob>& job,
                        std::shared_ptr<const pb::Stripe> stripe) {
  std::unique_lock lock(mutex_);
  job->stripe = std::move(stripe);
  job->state = WriteJob::State::ready;
  pump(lock);
}

void CommitQueue::failed(const std::shared_ptr<WriteJob>& job, const Error& error) {
  std::unique_lock lock(mutex_);
  drop(job, error);
  pump(lock);
}

size_t CommitQueue::units() const {
  std::lock_guard lock(mutex_);
  return units_;
}

void CommitQueue::wait_units_below(size_t limit) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return units_ < limit; });
}

void CommitQueue::wait_told(InodeId ino) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !failing_.contains(ino); });
}

void CommitQueue::wait_idle() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return units_ == 0 && jobs_.empty() && commits_ == 0; });
}

// Sends what can be committed now, as few requests as possible.
void CommitQueue::pump(std::unique_lock<std::mutex>& lock) {
  while (commits_ < kCommitsInFlightMax) {
    Batch batch = collect();
    if (batch.empty()) return;
    for (const auto& job : batch) job->state = WriteJob::State::committing;
    ++commits_;
    pb::Request request = commit_request(batch);
    lock.unlock();
    d_.client.call(std::move(request), [this, batch = std::move(batch)](result<pb::Reply> r) {
      const uint64_t session = d_.client.session();
      d_.work.post([this, batch, session, r = std::move(r)] { replied(batch, session, r); });
    });
    lock.lock();
  }
}

// Ready jobs none of whose inodes has earlier unfinished work outside the batch. Ready jobs whose
// units have all failed are dropped on the way.
CommitQueue::Batch CommitQueue::collect() {
  Batch batch;
  size_t stripes = 0;
  uint64_t record_bytes = 0;
  std::set<InodeId> blocked;
  for (auto it = jobs_.begin(); it != jobs_.end();) {
    const auto job = *it++;  // drop() below erases it
    if (batch.size() >= kCommitJobsMax || stripes >= kCommitStripesMax ||
        record_bytes >= kCommitRecordBytesMax)
      break;
    bool live = false, waits = job->state != WriteJob::State::ready;
    for (const Piece& piece : job->pieces) {
      if (piece.unit->answered) continue;
      live = true;
      waits = waits || blocked.contains(piece.unit->flush.ino);
    }
    if (!live && job->state == WriteJob::State::ready) {
      drop(job, Error(Errc::unavailable, "all units of the stripe have failed"));
    } else if (waits) {
      for (const Piece& piece : job->pieces) blocked.insert(piece.unit->flush.ino);
    } else {
      batch.push_back(job);
      stripes += job->stripe ? 1 : 0;
      record_bytes += job->record_bytes;
    }
  }
  return batch;
}

void CommitQueue::replied(const Batch& batch, uint64_t session, const result<pb::Reply>& reply) {
  std::unique_lock lock(mutex_);
  --commits_;
  if (reply) {
    if (brings_stripes(batch)) d_.daemon_room.accepted(0);
    for (const auto& job : batch) committed(job, session, reply.value());
  } else if (reply.error().is(Errc::revoked)) {
    d_.ids.revoked();
    for (const auto& job : batch) redo(job, reply.error());
  } else {
    const Error error = reply.error().in("committing");
    if (is_out_of_space(error) && brings_stripes(batch)) d_.daemon_room.refused(0, error);
    for (const auto& job : batch) {
      if (!certainly_refused(error)) job->stripe = nullptr;
      drop(job, error);
    }
  }
  pump(lock);
  changed_.notify_all();
}

// What the daemon says of one update; later parts of a unit see its earlier ones.
void CommitQueue::note_outcome(const pb::UpdateOutcome& outcome, FlushResult& result) {
  result.inode_gone = result.inode_gone || outcome.outcome() == pb::UpdateOutcome::GONE;
  result.overtaken = result.overtaken || outcome.outcome() == pb::UpdateOutcome::OVERTAKEN;
  result.blocks_mapped = outcome.blocks_mapped();
  result.size = outcome.size();
  result.blocks_reserved = outcome.blocks_reserved();
}

void CommitQueue::committed(const std::shared_ptr<WriteJob>& job, uint64_t session,
                            const pb::Reply& reply) {
  const auto& outcomes = reply.commit().outcomes();
  for (Piece& piece : job->pieces) {
    WriteUnit& unit = *piece.unit;
    if (unit.answered) continue;
    if (job->to_records && piece.update >= 0 && piece.update < outcomes.size() &&
        outcomes[piece.update].outcome() == pb::UpdateOutcome::NOT_SHARED) {
      fail_from(piece.unit,
                Error(Errc::revoked, "the daemon keeps no more bytes of the file in the metadata"));
      continue;
    }
    if (piece.update >= 0 && piece.update < outcomes.size()) {
      if (outcomes[piece.update].outcome() == pb::UpdateOutcome::NO_SPACE) {
        const Error error(Errc::no_space,
                          "what the sites have free is reserved for other files (fallocate)");
        d_.unreserved_room.refused(0, error);
        fail_from(piece.unit, error);
        continue;
      }
      if (job->stripe && !unit.flush.reserved) d_.unreserved_room.accepted(0);
      note_outcome(outcomes[piece.update], unit.result);
    }
    unit.result.session = session;
    unit.result.sequence = reply.sequence();
    if (piece.count > 0) {
      for (auto& run : runs_of(piece, job->stripe ? job->stripe->id() : 0)) {
        unit.result.runs.push_back(std::move(run));
      }
      if (job->stripe) unit.result.stripes.push_back(job->stripe);
      d_.counters.record_blocks += piece.sealed.size();
      unit.result.pieces = std::move(piece.sealed);
      d_.counters.record_bytes += job->record_bytes;
      d_.counters.blocks += piece.count;
      for (size_t i = 0; i < piece.count; ++i) {
        d_.counters.plain_bytes += unit.flush.blocks[piece.first + i].plain->size();
      }
    }
    if (!piece.ends()) continue;
    auto list = pending_.find(unit.flush.ino);
    list->second.erase(std::find(list->second.begin(), list->second.end(), piece.unit));
    if (list->second.empty()) pending_.erase(list);
    answer(piece.unit, std::move(unit.result));
  }
  if (job->stripe) d_.groups.committed(job->group, job->stripe->id());
  remove(job);
}

void CommitQueue::redo(const std::shared_ptr<WriteJob>& job, const Error& error) {
  if (++job->redone > kRedoMax) {
    drop(job, error.in("redone " + std::to_string(kRedoMax) + " times"));
    return;
  }
  if (!job->stripe && !job->to_records) {
    job->state = WriteJob::State::ready;
    return;
  }
  if (job->stripe) d_.abandoned.add(*job->stripe);
  d_.groups.give_up(std::exchange(job->group, {}));  // its columns come out different
  job->stripe = nullptr;
  job->state = WriteJob::State::working;
  d_.redo(job);
}

// The job is over without a commit: its inodes fail from its units on.
void CommitQueue::drop(const std::shared_ptr<WriteJob>& job, const Error& error) {
  for (const Piece& piece : job->pieces) fail_from(piece.unit, error);
  d_.groups.give_up(job->group);
  if (job->stripe) d_.abandoned.add(*job->stripe);
  remove(job);
}

void CommitQueue::remove(const std::shared_ptr<WriteJob>& job) {
  if (job->code) d_.stripe_done(*job);
  jobs_.erase(std::find(jobs_.begin(), jobs_.end(), job));
  changed_.notify_all();
}

void CommitQueue::fail_from(const std::shared_ptr<WriteUnit>& unit, const Error& error) {
  if (unit->answered) return;
  const auto list = pending_.find(unit->flush.ino);
  if (list == pending_.end()) return;
  auto& units = list->second;
  for (auto it = std::find(units.begin(), units.end(), unit); it != units.end();) {
    ++d_.counters.failures;
    answer(*it, *it == unit ? error : error.in("an earlier write of the same file failed"));
    it = units.erase(it);
  }
  if (units.empty()) pending_.erase(list);
}

void CommitQueue::answer(const std::shared_ptr<WriteUnit>& unit, result<FlushResult> outcome) {
  unit->answered = true;
  const InodeId ino = unit->flush.ino;
  const bool failed = !outcome;
  if (failed) {
    auto& failing = failing_[ino];
    ++failing.callbacks;
    failing.error = outcome.error();
  }
  d_.callbacks.post([this, unit, ino, failed, outcome = std::move(outcome)]() mutable {
    std::exchange(unit->done, nullptr)(std::move(outcome));
    std::lock_guard lock(mutex_);
    // Not before the caller knows: what it submits until then is to follow the failed unit.
    if (failed && --failing_[ino].callbacks == 0) failing_.erase(ino);
    --units_;
    changed_.notify_all();
  });
}

}  // namespace datacloud
