// Inside FileLocks: one call of a program on its way, and what it may fail with.
#pragma once

#include <cerrno>

#include "fs/file/file_locks.h"

namespace datacloud {

struct FileLocks::Operation {
  enum class Kind { set, test, drop };
  InodeId ino = 0;
  Kind kind = Kind::set;
  FileLock lock;
  bool wait = false;
  Done done;
  Tested tested;
  uint64_t name = 0;
  bool finished = false;   // called back
  bool abandoned = false;  // nobody waits for it
  bool sent = false;
  uint64_t resolving = 0;  // counted in `unresolved` of this generation
  int sessions = 0;
  bool gives_up() const {
    return kind == Kind::drop || (kind == Kind::set && lock.type == LockType::none);
  }
};

namespace lock_errors {

inline Error busy() { return Error::posix(EAGAIN, "another program holds the lock"); }
inline Error no_room() { return Error::posix(ENOLCK, "too many locks"); }
inline Error not_sent() {
  return Error(Errc::timed_out, "the request for a lock could not be sent");
}
inline Error interrupted() { return Error::posix(EINTR, "a signal came before the lock"); }
inline Error lost() {
  return Error::posix(EIO, "this mount's session was lost, and with it a lock of the file");
}

}  // namespace lock_errors
}  // namespace datacloud
