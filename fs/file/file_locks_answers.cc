// What the daemon answers about locks, and what becomes of one when messages are late or lost.
#include <algorithm>
#include <utility>

#include "fs/file/file_lock_operation.h"
#include "fs/file/file_locks.h"
#include "fs/file/metadata_client.h"

namespace datacloud {

namespace {

constexpr auto kAgain = seconds(1);
constexpr int kSessionsMax = 8;  // that may be lost during one operation

}  // namespace

void FileLocks::ask_daemon(const OperationPtr& op, File& file) {
  pb::Request request;
  auto* lock = request.mutable_lock();
  put_lock(*lock->mutable_lock(), op->ino, op->lock);
  lock->set_test(op->kind == Operation::Kind::test);
  lock->set_release_owner(op->kind == Operation::Kind::drop);
  lock->set_wait(op->wait);
  if (op->wait) lock->set_cancel(op->name);
  op->sent = true;
  ++file.in_flight;
  const uint64_t generation = file.generation;
  const auto answer = [this, op, generation](bool late) {
    return [this, op, generation, late](result<pb::Reply> reply) {
      locked([&](Batch& more) { answered(op, generation, std::move(reply), late, more); });
    };
  };
  send(std::move(request), answer(false), answer(true));
}

// Nobody waits for it any more; should it be granted after all, it is given up right behind.
void FileLocks::leave(const OperationPtr& op, File& file, const Error& error, Batch& batch) {
  op->abandoned = true;
  finish(op, failure(error), batch);
  if (!op->sent) return remove_from_lists(op, file);
  if (op->kind != Operation::Kind::set || op->gives_up()) return;
  if (op->wait) send_cancel(*op);
  auto undo = std::make_shared<Operation>();
  undo->ino = op->ino;
  undo->lock = op->lock;
  undo->lock.type = LockType::none;
  step(undo, batch);
}

void FileLocks::send_cancel(const Operation& op) {
  pb::Request request;
  request.mutable_lock()->set_cancel(op.name);
  send(
      std::move(request), [](result<pb::Reply>) {}, nullptr);
}

void FileLocks::remove_from_lists(const OperationPtr& op, File& file) {
  std::erase(file.queue, op);
  std::erase(file.waiters, op);
}

void FileLocks::cancel(const OperationPtr& op) {
  locked([&](Batch& batch) {
    if (op->finished || !op->wait) return;
    if (op->sent) return send_cancel(*op);
    if (const auto known = files_.find(op->ino); known != files_.end())
      remove_from_lists(op, known->second);
    finish(op, failure(lock_errors::interrupted()), batch);
  });
}

void FileLocks::abandon(const OperationPtr& op, const Error& error) {
  locked([&](Batch& batch) {
    if (op->finished) return;
    const auto known = files_.find(op->ino);
    if (known == files_.end()) return finish(op, failure(error), batch);
    if (!op->gives_up()) return leave(op, known->second, error, batch);
    // The program is told; giving up goes on.
    op->finished = true;
    batch.push_back([op, error] {
      if (op->done) op->done(failure(error));
    });
  });
}

void FileLocks::record(const Operation& op, File& file, bool granted) {
  if (op.kind == Operation::Kind::drop && granted) {
    const size_t before = file.held.size();
    file.held.drop_owner(op.lock.owner);
    held_ -= before - file.held.size();
  } else if (op.kind == Operation::Kind::set && granted) {
    set_held(file, op.lock);
  } else if (op.kind == Operation::Kind::set && op.lock.whole &&
             file.held.whole_of(op.lock.owner) != op.lock.type) {
    FileLock none = op.lock;  // given up for the one that was not had
    none.type = LockType::none;
    set_held(file, none);
  }
}

void FileLocks::answered(const OperationPtr& op, uint64_t generation, result<pb::Reply> reply,
                         bool late, Batch& batch) {
  File* file = find(op->ino, generation);
  if (file == nullptr) {  // the session was lost: session_lost() has said so, or it begins anew
    if (op->gives_up()) return finish(op, success(), batch);
    if (++op->sessions > kSessionsMax || op->abandoned)
      return finish(op, failure(lock_errors::lost()), batch);
    return step(op, batch);
  }
  if (!reply && reply.error().is(Errc::unavailable) && !late) {
    // The deadline has passed; what became of it is still to be known.
    if (op->gives_up() && op->resolving == 0) {
      op->resolving = generation;
      ++file->unresolved;
    }
    if (!op->wait && !op->gives_up()) leave(op, *file, reply.error(), batch);
    return;
  }
  --file->in_flight;
  if (!reply && reply.error().is(Errc::unavailable)) {
    if ((op->wait && !op->abandoned) || op->gives_up()) step(op, batch);
    return;
  }
  if (!reply && reply.error().code() == lock_errors::not_sent().code()) {
    if (!op->gives_up()) return finish(op, failure(lock_errors::no_room()), batch);
    if (op->resolving == 0) {
      op->resolving = generation;
      ++file->unresolved;
    }
    return timers_.after(kAgain, [this, op] {
      locked([&](Batch& more) {
        if (!ended_) step(op, more);
      });
    });
  }
  if (!reply && session_is_over(reply.error())) {
    // on_session() follows, and this file's state with it.
    if (op->gives_up()) return finish(op, success(), batch);
    if (++op->sessions > kSessionsMax || op->abandoned)
      return finish(op, failure(lock_errors::lost()), batch);
    file->queue.push_back(op);
    return;
  }
  record(*op, *file, reply.has_value());
  if (!reply) return finish(op, failure(reply.error()), batch);
  if (op->kind == Operation::Kind::test && reply.value().lock().has_held()) {
    auto held = lock_from(reply.value().lock().held(), 0);
    if (!held) return finish(op, failure(held.error()), batch);
    if (std::exchange(op->finished, true)) return;
    batch.push_back([op, found = held.value()] { op->tested(std::optional(found)); });
    return;
  }
  finish(op, success(), batch);
}

void FileLocks::present(pb::HelloRequest& hello) {
  std::lock_guard lock(mutex_);
  for (const auto& [ino, file] : files_) {
    if (file.state == State::delegated) {
      hello.add_leases()->set_ino(ino);
      hello.mutable_leases()->rbegin()->set_locks(true);
    } else if (file.state == State::kept) {
      file.held.each(
          [&, ino = ino](const FileLock& held) { put_lock(*hello.add_locks(), ino, held); });
    }
  }
}

std::vector<InodeId> FileLocks::session_begins(bool lost_before) {
  std::vector<InodeId> lost_files;
  locked([&](Batch& batch) {
    support_ = Support::unknown;  // it may be another version
    if (!lost_before) return;
    ++generation_;
    std::vector<OperationPtr> again;
    for (auto& [ino, file] : files_) {
      if (file.state == State::local) continue;  // nobody else knows of them
      if (!file.held.empty()) lost_files.push_back(ino);
      for (HandleLocks* handle : file.handles)
        for (const uint64_t owner : handle->owners)
          if (file.held.holds(owner_of(owner))) handle->lost = true;
      again.insert(again.end(), file.queue.begin(), file.queue.end());
      again.insert(again.end(), file.waiters.begin(), file.waiters.end());
      for (auto& op : again)
        if (op->ino == ino && !op->gives_up() && file.held.holds(op->lock.owner))
          finish(op, failure(lock_errors::lost()), batch);
      held_ -= file.held.size();
      auto handles = std::move(file.handles);
      file = File();
      file.generation = generation_;
      file.handles = std::move(handles);
    }
    for (const auto& op : again) {
      op->sent = false;
      step(op, batch);
    }
  });
  return lost_files;
}

// Those unused for longest go first.
void FileLocks::bound_files(Batch& batch) {
  if (files_.size() <= kFilesMax) return;
  std::vector<std::pair<MonotonicTime, InodeId>> idle;
  for (const auto& [ino, file] : files_)
    if (!file.busy() && file.state != State::asking) idle.emplace_back(file.used, ino);
  std::sort(idle.begin(), idle.end());
  idle.resize((idle.size() + 1) / 2);
  for (const auto& [used, ino] : idle) {
    File& file = files_[ino];
    if (file.state == State::delegated) give_back(ino, file, 0, batch);
    files_.erase(ino);
  }
}

}  // namespace datacloud
