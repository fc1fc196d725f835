// Where a lock is decided: here, or by the daemon.
#include "fs/file/file_locks.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "fs/file/file_lock_operation.h"
#include "fs/file/metadata_client.h"

namespace datacloud {

namespace {

// A file that others have locked is asked about again only after this.
constexpr auto kContended = seconds(10);

// The batch of the method that this thread is in: answers that come at once go there.
thread_local std::vector<std::function<void()>>* batch_of_thread = nullptr;

}  // namespace

FileLocks::~FileLocks() {
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
  }
  timers_.stop();
}

void FileLocks::locked(const std::function<void(Batch&)>& work) {
  Batch batch;
  auto* const outer = std::exchange(batch_of_thread, &batch);
  {
    std::lock_guard lock(mutex_);
    work(batch);
  }
  // What runs here may add more.
  for (size_t i = 0; i < batch.size(); ++i) std::exchange(batch[i], nullptr)();
  batch_of_thread = outer;
}

// What is answered at once is answered on this thread, which holds the mutex. `unavailable` means
// then that the request was not sent at all, and `late` is not called.
void FileLocks::send(pb::Request request, Callback callback, Callback late) {
  const auto deliver = [](Callback to) {
    return [to = std::move(to)](result<pb::Reply> reply) {
      if (batch_of_thread == nullptr) return to(std::move(reply));
      if (!reply && reply.error().is(Errc::unavailable)) reply = failure(lock_errors::not_sent());
      batch_of_thread->push_back([to, reply = std::move(reply)] { to(reply); });
    };
  };
  client_.call_until_known(std::move(request), deliver(std::move(callback)),
                           late ? deliver(std::move(late)) : Callback());
}

FileLocks::File* FileLocks::find(InodeId ino, uint64_t generation) {
  const auto known = files_.find(ino);
  return known != files_.end() && known->second.generation == generation ? &known->second : nullptr;
}

void FileLocks::finish(const OperationPtr& op, result<void> outcome, Batch& batch) {
  if (const uint64_t generation = std::exchange(op->resolving, 0)) {
    if (File* file = find(op->ino, generation); file != nullptr && --file->unresolved == 0)
      run_queue(op->ino, *file, batch);
  }
  if (std::exchange(op->finished, true)) return;
  batch.push_back([op, outcome = std::move(outcome)] {
    if (op->tested) {
      if (outcome)
        op->tested(std::optional<FileLock>());
      else
        op->tested(failure(outcome.error()));
    } else if (op->done) {
      op->done(outcome);
    }
  });
}

FileLocks::OperationPtr FileLocks::set(InodeId ino, HandleLocks& handle, const FileLock& lock,
                                       bool wait, Done done) {
  auto op = std::make_shared<Operation>();
  op->ino = ino;
  op->lock = lock;
  op->lock.owner.session = 0;
  op->wait = wait && lock.type != LockType::none;
  op->done = std::move(done);
  locked([&](Batch& batch) {
    if (handle.lost && lock.type != LockType::none)
      return finish(op, failure(lock_errors::lost()), batch);
    if (lock.type != LockType::none) {
      File& file = files_[ino];
      if (file.generation == 0) file.generation = generation_;
      const auto add = [](auto& list, const auto& item) {
        if (std::find(list.begin(), list.end(), item) == list.end()) list.push_back(item);
      };
      add(handle.owners, lock.owner.number);
      add(file.handles, &handle);
    }
    op->name = ++last_name_;
    step(op, batch);
    bound_files(batch);
  });
  return op;
}

FileLocks::OperationPtr FileLocks::test(InodeId ino, const FileLock& lock, Tested tested) {
  auto op = std::make_shared<Operation>();
  op->ino = ino;
  op->kind = Operation::Kind::test;
  op->lock = lock;
  op->lock.owner.session = 0;
  op->tested = std::move(tested);
  locked([&](Batch& batch) {
    step(op, batch);
    bound_files(batch);
  });
  return op;
}

FileLocks::OperationPtr FileLocks::flush(InodeId ino, HandleLocks& handle, uint64_t owner,
                                         Done done) {
  OperationPtr op;
  locked([&](Batch& batch) {
    std::erase(handle.owners, owner);
    const auto known = files_.find(ino);
    if (known == files_.end()) return;
    if (!known->second.held.holds(owner_of(owner)) && known->second.in_flight == 0) return;
    op = std::make_shared<Operation>();
    op->ino = ino;
    op->kind = Operation::Kind::drop;
    op->lock.owner = owner_of(owner);
    op->done = std::move(done);
    step(op, batch);
  });
  return op;
}

void FileLocks::release(InodeId ino, HandleLocks& handle) {
  std::vector<uint64_t> owners;
  {
    std::lock_guard lock(mutex_);
    owners = handle.owners;
    const auto known = files_.find(ino);
    if (known != files_.end()) std::erase(known->second.handles, &handle);
  }
  for (const uint64_t owner : owners) (void)flush(ino, handle, owner, nullptr);
}

void FileLocks::step(const OperationPtr& op, Batch& batch) {
  if (op->finished && !op->gives_up()) return;
  File& file = files_[op->ino];
  if (file.generation == 0) file.generation = generation_;
  file.used = monotonic_now();
  if (file.unresolved > 0 && !op->resolving) return file.queue.push_back(op);
  const bool ask_again = (file.state == State::kept && file.used - file.contended > kContended) ||
                         (file.state == State::local && support_ != Support::no);
  if (ask_again && !file.busy()) file.state = State::unknown;
  switch (file.state) {
    case State::unknown:
      if (op->gives_up()) return finish(op, success(), batch);
      file.queue.push_back(op);
      return ask(op->ino, file, batch);
    case State::asking:
      return file.queue.push_back(op);
    case State::delegated:
    case State::local:
      return decide(op, file, batch);
    case State::kept:
      return ask_daemon(op, file);
  }
}

void FileLocks::run_queue(InodeId, File& file, Batch& batch) {
  for (auto& op : std::exchange(file.queue, {})) step(op, batch);
}

void FileLocks::fail_queue(File& file, const Error& error, Batch& batch) {
  file.state = State::unknown;
  for (auto& op : std::exchange(file.queue, {})) {
    if (op->gives_up())
      finish(op, success(), batch);
    else
      finish(op, failure(error), batch);
  }
}

// Whether the daemon knows locks is asked once; then whether this mount may decide alone.
void FileLocks::ask(InodeId ino, File& file, Batch& batch) {
  if (support_ == Support::no) {
    file.state = State::local;
    return run_queue(ino, file, batch);
  }
  file.state = State::asking;
  const uint64_t generation = file.generation;
  pb::Request request;
  if (support_ == Support::unknown) {
    FileLock any;
    put_lock(*request.mutable_lock()->mutable_lock(), ino, any);
    request.mutable_lock()->set_test(true);
    return send(
        std::move(request),
        [this, ino, generation](result<pb::Reply> reply) {
          locked([&](Batch& more) { probed(ino, generation, reply, more); });
        },
        nullptr);
  }
  request = lease_request(ino, pb::LEASE_NONE, false);
  request.mutable_lease()->set_locks(true);
  send(
      std::move(request),
      [this, ino, generation](result<pb::Reply> reply) {
        locked([&](Batch& more) { delegated(ino, generation, reply, more); });
      },
      nullptr);
}

void FileLocks::probed(InodeId ino, uint64_t generation, const result<pb::Reply>& reply,
                       Batch& batch) {
  const bool old = !reply && reply.error().is(Errc::unsupported);
  if (reply) support_ = Support::yes;
  if (old && support_ != Support::no) {
    support_ = Support::no;
    spdlog::warn(
        "the daemon does not know locks: flock and fcntl locks hold on this mount only, until it "
        "is upgraded");
  }
  File* file = find(ino, generation);
  if (file == nullptr) return;
  if (reply || old || session_is_over(reply.error())) return ask(ino, *file, batch);
  fail_queue(*file, reply.error(), batch);
}

void FileLocks::delegated(InodeId ino, uint64_t generation, const result<pb::Reply>& reply,
                          Batch& batch) {
  File* file = find(ino, generation);
  if (file == nullptr) return;
  if (reply) {
    file->state = State::delegated;
  } else if (reply.error().code() == std::errc::resource_unavailable_try_again) {
    file->state = State::kept;
    file->contended = monotonic_now();
  } else {
    return fail_queue(*file, reply.error(), batch);
  }
  run_queue(ino, *file, batch);
}

void FileLocks::set_held(File& file, const FileLock& lock) {
  const size_t before = file.held.size();
  file.held.set(lock);
  held_ += file.held.size() - before;
}

result<void> FileLocks::take(File& file, const FileLock& lock) {
  const LockType now = lock.whole ? file.held.whole_of(lock.owner) : lock.type;
  if (lock.whole && now != LockType::none && now != lock.type) {
    FileLock none = lock;  // as on Linux: the first is given up before the second is had
    none.type = LockType::none;
    set_held(file, none);
  }
  if (lock.type != LockType::none) {
    if (file.held.conflict(lock) != nullptr) return failure(lock_errors::busy());
    if (held_ + 2 > kLocksMax || file.held.size() + 2 > kLocksPerFileMax)
      return failure(lock_errors::no_room());
  }
  set_held(file, lock);
  return success();
}

void FileLocks::decide(const OperationPtr& op, File& file, Batch& batch) {
  if (op->kind == Operation::Kind::test) {
    if (const FileLock* held = file.held.conflict(op->lock)) {
      if (std::exchange(op->finished, true)) return;
      batch.push_back([op, found = *held] { op->tested(std::optional(found)); });
      return;
    }
    return finish(op, success(), batch);
  }
  if (op->kind == Operation::Kind::drop) {
    const size_t before = file.held.size();
    file.held.drop_owner(op->lock.owner);
    held_ -= before - file.held.size();
    finish(op, success(), batch);
    return run_waiters(file, batch);
  }
  auto taken = take(file, op->lock);
  const bool waits = !taken && op->wait && taken.error().code() == lock_errors::busy().code();
  if (waits && (file.state == State::local || op->lock.whole)) {
    file.waiters.push_back(op);
  } else if (waits) {
    give_back(op->ino, file, 0, batch);
    return step(op, batch);
  } else {
    finish(op, std::move(taken), batch);
  }
  run_waiters(file, batch);
}

void FileLocks::run_waiters(File& file, Batch& batch) {
  for (bool again = true; again;) {
    again = false;
    for (auto waiter = file.waiters.begin(); waiter != file.waiters.end(); ++waiter) {
      if (file.held.conflict((*waiter)->lock) != nullptr) continue;
      const OperationPtr op = *waiter;
      file.waiters.erase(waiter);
      finish(op, take(file, op->lock), batch);
      again = true;
      break;
    }
  }
}

// The daemon decides from now on. Sent before anything else about this file.
void FileLocks::give_back(InodeId ino, File& file, uint64_t recall_id, Batch& batch) {
  pb::Request request;
  auto* told = request.mutable_recall_done();
  told->set_id(recall_id);
  FileLock names_the_file;
  names_the_file.type = LockType::none;
  put_lock(*told->add_locks(), ino, names_the_file);
  file.held.each([&](const FileLock& held) { put_lock(*told->add_locks(), ino, held); });
  send(
      std::move(request), [](result<pb::Reply>) {}, nullptr);
  file.state = State::kept;
  file.contended = monotonic_now();
  for (auto& op : std::exchange(file.waiters, {})) step(op, batch);
}

void FileLocks::recalled(const pb::Recall& recall) {
  locked([&](Batch& batch) {
    const auto known = files_.find(recall.ino());
    if (known != files_.end() && known->second.state == State::delegated) {
      return give_back(recall.ino(), known->second, recall.id(), batch);
    }
    pb::Request request;
    request.mutable_recall_done()->set_id(recall.id());
    FileLock none;
    none.type = LockType::none;
    put_lock(*request.mutable_recall_done()->add_locks(), recall.ino(), none);
    send(
        std::move(request), [](result<pb::Reply>) {}, nullptr);
  });
}

}  // namespace datacloud
