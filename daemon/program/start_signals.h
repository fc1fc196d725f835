// Whether the process was asked to end while the daemon starts or stands by.
#pragma once

#include <signal.h>

namespace datacloud {

// Signals are blocked until somebody takes them, which is once the daemon serves (main.cc).
inline bool asked_to_stop() {
  sigset_t pending;
  return ::sigpending(&pending) == 0 &&
         (::sigismember(&pending, SIGTERM) == 1 || ::sigismember(&pending, SIGINT) == 1);
}

}  // namespace datacloud
