// Locks of files: flock(2) and fcntl(2) of all mounts, and the delegation of a file's locks to the
// only mount that uses them (docs/protocol.md, "Locks").
#include <cerrno>

#include "common/base/log.h"
#include "daemon/records/namespace_ops.h"
#include "daemon/service/service.h"

namespace datacloud {
namespace {

Answer answer_of(LockTable::Outcome outcome) {
  using Outcome = LockTable::Outcome;
  switch (outcome) {
    case Outcome::granted: {
      pb::Reply reply;
      reply.mutable_lock();
      return std::optional(std::move(reply));
    }
    case Outcome::busy:
      return failure(Error::posix(EAGAIN, "another program holds the lock"));
    case Outcome::deadlock:
      return failure(Error::posix(EDEADLK, "its owner waits for a lock of this one"));
    case Outcome::too_many:
      return failure(Error::posix(
          ENOLCK, "too many locks; raise daemon.locks_per_file_max or daemon.locks_per_mount_max"));
    case Outcome::interrupted:
      return failure(Error::posix(EINTR, "the program does not wait any more"));
    case Outcome::waits:
      break;
  }
  return later();
}

}  // namespace

// Never needed to answer a recall: it may wait.
Answer MetadataService::lock(const CallPtr& call) {
  const auto& request = call->request.lock();
  const SessionId session = call->session;
  if (request.cancel() != 0 && !request.wait()) {
    locks_.cancel(session, request.cancel());
    return answer_of(LockTable::Outcome::granted);
  }
  TRY(const FileLock lock, lock_from(request.lock(), session));
  const InodeId ino = request.lock().ino();
  const bool gives_up = request.release_owner() || lock.type == LockType::none;
  if (!gives_up) {
    TRY(get_inode(store_.begin(), ino));
  }
  const auto answer_with = [this, call](LockTable::Outcome outcome) {
    auto reply = answer_of(outcome);
    if (!reply) return refuse(call, reply.error());
    answer(call, std::move(*reply.value()));
  };
  if (!locks_.kept_here(session, ino)) {
    locks_.when_kept(
        session, ino, request.wait() ? request.cancel() : 0, [this, call] { dispatch(call); },
        [answer_with] { answer_with(LockTable::Outcome::interrupted); });
    return later();
  }
  if (request.release_owner()) {
    locks_.release_owner(ino, lock.owner);
    return answer_of(LockTable::Outcome::granted);
  }
  if (request.test()) {
    pb::Reply reply;
    reply.mutable_lock();
    if (const FileLock* held = locks_.conflict(ino, lock)) {
      put_lock(*reply.mutable_lock()->mutable_held(), ino, *held);
    }
    return std::optional(std::move(reply));
  }
  if (!request.wait()) return answer_of(locks_.lock(ino, lock));
  return answer_of(locks_.lock_or_wait(ino, lock, request.cancel(), answer_with));
}

void MetadataService::locks_told(SessionId session, const pb::RecallDoneRequest& told) {
  if (told.id() == 0 && told.locks_size() == 0) return;
  std::vector<FileLock> locks;
  for (const auto& record : told.locks()) {
    auto lock = lock_from(record, session);
    if (lock) locks.push_back(lock.value());
  }
  (void)locks_.told(session, told.id(), told.locks_size() > 0 ? told.locks(0).ino() : 0, locks);
}

void MetadataService::adopt_locks(const Call& call, SessionId session) {
  const auto& hello = call.request.hello();
  for (const auto& held : hello.leases()) {
    if (held.locks() && may_resume_with(call, session, held.ino()))
      locks_.adopt_delegation(session, held.ino());
  }
  for (const auto& record : hello.locks()) {
    auto lock = lock_from(record, session);
    if (lock && may_resume_with(call, session, record.ino()))
      locks_.adopt(record.ino(), lock.value());
  }
}

void MetadataService::send_lock_recall(const LockTable::Recall& recall) {
  SessionState* session = sessions_.find(recall.session);
  // A disconnected mount gets it when it resumes.
  if (session == nullptr || !session->connection) return;
  if (session->recalled_at == MonotonicTime{}) session->recalled_at = loop_.now();
  pb::Push push;
  push.mutable_recall()->set_id(recall.id);
  push.mutable_recall()->set_ino(recall.ino);
  push.mutable_recall()->set_locks(true);
  push_out(*session, std::move(push));
}

}  // namespace datacloud
