// Locks: fcntl(2) and flock(2). None holds a thread while it waits.
#include <fcntl.h>
#include <sys/file.h>

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "fs/fuse/ops.h"
#include "fs/fuse/raw/request_loop.h"
#include "fs/fuse/reply.h"

namespace datacloud {
namespace {

// A request on its way; replied once, by whoever is first.
class LockReply : public std::enable_shared_from_this<LockReply> {
 public:
  explicit LockReply(Mount& mount, fuse_req_t req) : mount_(mount), req_(req) {}

  // `begin` starts the operation. The signal of an early INTERRUPT comes after it.
  void start(const std::function<FileLocks::OperationPtr()>& begin) {
    auto self = shared_from_this();
    {
      std::lock_guard lock(mutex_);
      starting_ = true;
    }
    auto later = RequestLoop::reply_later([self] { self->signalled(); },
                                          [self](const Error& error) { self->ended(error); });
    {
      std::lock_guard lock(mutex_);
      if (!replied_) later_ = std::move(later);
    }
    auto operation = begin();
    bool signal = false;
    std::optional<Error> end;
    {
      std::lock_guard lock(mutex_);
      operation_ = operation;
      starting_ = false;
      signal = early_signal_;
      end = early_end_;
    }
    if (signal) mount_.locks().cancel(operation);
    if (end) mount_.locks().abandon(operation, *end);
  }

  void reply(const std::function<void(fuse_req_t)>& send) {
    std::shared_ptr<RequestLoop::Later> later;
    {
      std::lock_guard lock(mutex_);
      if (std::exchange(replied_, true)) return;
      later = std::move(later_);
    }
    later.reset();  // neither a signal nor an end any more
    send(req_);
  }

 private:
  void signalled() {
    std::unique_lock lock(mutex_);
    if (starting_) early_signal_ = true;
    const auto operation = operation_;
    lock.unlock();
    if (operation) mount_.locks().cancel(operation);
  }
  void ended(const Error& error) {
    std::unique_lock lock(mutex_);
    if (starting_) early_end_ = error;
    const auto operation = operation_;
    lock.unlock();
    if (operation) mount_.locks().abandon(operation, error);
  }

  Mount& mount_;
  const fuse_req_t req_;
  std::mutex mutex_;
  std::shared_ptr<RequestLoop::Later> later_;
  FileLocks::OperationPtr operation_;
  bool replied_ = false, starting_ = false, early_signal_ = false;
  std::optional<Error> early_end_;
};

LockType type_of(short type) {
  return type == F_RDLCK ? LockType::read : type == F_WRLCK ? LockType::write : LockType::none;
}

FileLock lock_of(const struct flock& from, const fuse_file_info* fi) {
  FileLock lock;
  lock.owner.number = fi->lock_owner;
  lock.type = type_of(from.l_type);
  lock.start = static_cast<uint64_t>(from.l_start);
  if (from.l_len > 0) lock.end = lock.start + static_cast<uint64_t>(from.l_len) - 1;
  lock.pid = static_cast<uint32_t>(from.l_pid);
  return lock;
}

// Refusals are ordinary; anything else is said in the log.
void reply_outcome(fuse_req_t req, const result<void>& outcome) {
  if (outcome) return (void)fuse_reply_err(req, 0);
  const int value = outcome.error().errno_value();
  if (value == EAGAIN || value == EINTR) return (void)fuse_reply_err(req, value);
  reply_error(req, outcome.error());
}

void set_lock(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi, const FileLock& lock, bool wait) {
  Mount& mount = mount_of(req);
  mount.count_operation();
  auto reply = std::make_shared<LockReply>(mount, req);
  reply->start([&] {
    return mount.locks().set(ino, handle_of(fi).locks, lock, wait, [reply](result<void> outcome) {
      reply->reply([&](fuse_req_t to) { reply_outcome(to, outcome); });
    });
  });
}

void op_setlk(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi, struct flock* lock, int sleep) {
  set_lock(req, ino, fi, lock_of(*lock, fi), sleep != 0);
}

void op_flock(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi, int operation) {
  FileLock lock;
  lock.whole = true;
  lock.owner.number = fi->lock_owner;
  lock.pid = static_cast<uint32_t>(fuse_req_ctx(req)->pid);
  const int kind = operation & ~LOCK_NB;
  lock.type = kind == LOCK_SH ? LockType::read : kind == LOCK_EX ? LockType::write : LockType::none;
  set_lock(req, ino, fi, lock, (operation & LOCK_NB) == 0);
}

void op_getlk(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi, struct flock* asked) {
  Mount& mount = mount_of(req);
  mount.count_operation();
  const FileLock lock = lock_of(*asked, fi);
  auto reply = std::make_shared<LockReply>(mount, req);
  reply->start([&] {
    return mount.locks().test(ino, lock, [reply](result<std::optional<FileLock>> found) {
      reply->reply([&](fuse_req_t to) {
        if (!found) return reply_error(to, found.error());
        struct flock out {};
        out.l_type = F_UNLCK;
        if (const auto& held = found.value()) {
          out.l_type = held->type == LockType::write ? F_WRLCK : F_RDLCK;
          out.l_whence = SEEK_SET;
          out.l_start = static_cast<off_t>(held->start);
          out.l_len =
              held->end == kLockEndMax ? 0 : static_cast<off_t>(held->end - held->start + 1);
          out.l_pid = static_cast<pid_t>(held->pid);
        }
        fuse_reply_lock(to, &out);
      });
    });
  });
}

}  // namespace

void add_lock_operations(fuse_lowlevel_ops& ops) {
  ops.setlk = op_setlk;
  ops.getlk = op_getlk;
  ops.flock = op_flock;
}

}  // namespace datacloud
