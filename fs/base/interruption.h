// Waits that end before what they wait for, because the program that asked is being killed or the
// daemon has been silent for too long.
//
// The thread that works on a request carries the request's Interruption; every wait below it that
// may last is made with the functions here and fails with the interruption's error. Threads of the
// mount's own carry none: their waits are never ended this way.
//
// What was begun is not undone by an interruption: whoever gives up waiting leaves an operation
// that may still happen, and must leave all bookkeeping to whoever completes it.
//
// Thread safety: raise() from any thread; the rest concerns the calling thread.
#pragma once

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <stop_token>
#include <utility>

#include "common/base/clock.h"
#include "common/base/error.h"

namespace datacloud {

class Interruption {
 public:
  enum class Reason { none, killed, daemon_silent };

  // Only the first reason counts.
  void raise(Reason reason) {
    Reason none = Reason::none;
    reason_.compare_exchange_strong(none, reason);
    source_.request_stop();
  }
  bool raised() const { return reason_ != Reason::none; }
  std::stop_token token() const { return source_.get_token(); }
  Error error() const {
    if (reason_ == Reason::daemon_silent)
      return Error(Errc::unavailable, "the daemon does not answer; is datacloudd running?");
    return Error::posix(EINTR, "the program was killed while it waited");
  }

  // Of the request this thread works on; null on other threads.
  static const Interruption*& current() {
    thread_local const Interruption* current = nullptr;
    return current;
  }

 private:
  std::stop_source source_;
  std::atomic<Reason> reason_{Reason::none};
};

// For the time of its life this thread works on that request.
class InterruptionScope {
 public:
  explicit InterruptionScope(const Interruption& interruption)
      : outer_(std::exchange(Interruption::current(), &interruption)) {}
  ~InterruptionScope() { Interruption::current() = outer_; }
  InterruptionScope(const InterruptionScope&) = delete;
  InterruptionScope& operator=(const InterruptionScope&) = delete;

 private:
  const Interruption* outer_;
};

inline std::stop_token interruption_token() {
  const auto* current = Interruption::current();
  return current ? current->token() : std::stop_token();
}

// Why a wait that has seen its token stopped has failed.
inline Error interruption_error() { return Interruption::current()->error(); }

// Waits until `done()`; `lock` is held for it and at return.
template <class Lock, class Done>
result<void> wait_interruptibly(std::condition_variable_any& changed, Lock& lock, Done done) {
  if (changed.wait(lock, interruption_token(), done)) return success();
  return failure(interruption_error());
}

// The same for at most `limit`; whether it is done.
template <class Lock, class Done>
result<bool> wait_interruptibly_for(std::condition_variable_any& changed, Lock& lock,
                                    Duration limit, Done done) {
  const auto token = interruption_token();
  const bool is_done = changed.wait_for(lock, token, limit, done);
  if (!is_done && token.stop_requested()) return failure(interruption_error());
  return is_done;
}

inline result<void> sleep_interruptibly(Duration time) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  TRY(auto slept, wait_interruptibly_for(never, lock, time, [] { return false; }));
  (void)slept;
  return success();
}

}  // namespace datacloud
