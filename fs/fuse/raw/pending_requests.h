// Requests that are read and not yet served, and the kernel's wish to end them.
//
// INTERRUPT names a request by its number, comes once, for the first signal of any kind, and with
// several reading threads perhaps before its request. So a request whose program got a signal is
// watched from then on: it ends as soon as the program is seen to be dying. One that has waited
// `deadline` for a daemon that said nothing for as long ends, too.
//
// Bound: as many entries as there are requests in the loop (request_loop.h); INTERRUPTs without a
// request are kept for kEarlyMax requests.
//
// Thread safety: all methods from any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "fs/base/interruption.h"

namespace datacloud {

struct PendingRequest {
  uint64_t unique = 0;
  pid_t caller = 0;  // the thread that waits, 0: unknown
  MonotonicTime arrived{};
  bool early = false;      // its INTERRUPT came before it
  bool signalled = false;  // guarded by PendingRequests
  // Of a request that any signal ends, not only one that kills; guarded by PendingRequests.
  std::function<void()> on_signal;
  Interruption interruption;
};
using PendingRequestPtr = std::shared_ptr<PendingRequest>;

class PendingRequests {
 public:
  static constexpr size_t kEarlyMax = 1024;

  struct Options {
    Duration deadline = seconds(30);
    std::function<bool(pid_t)> is_dying;
    std::function<Duration()> daemon_silence;  // how long the daemon has said nothing
  };
  explicit PendingRequests(Options options) : options_(std::move(options)) {}

  PendingRequestPtr add(uint64_t unique, pid_t caller);
  void remove(uint64_t unique);
  // Runs the request's on_signal.
  void interrupt(uint64_t unique);
  // Sets it; runs it at once when the signal has come already.
  void on_signal(const PendingRequestPtr&, std::function<void()>);

  // Raises the interruption of all that have to end now, and returns those. To be called after
  // interrupt(), and now and then. Reads /proc: not from a thread that must not wait.
  std::vector<PendingRequestPtr> end_due();
  // How many requests are watched; above 0 end_due() should be called soon again.
  size_t watched() const;
  void end_all();
  bool empty() const;

 private:
  const Options options_;
  mutable std::mutex mutex_;
  std::unordered_map<uint64_t, PendingRequestPtr> requests_;
  std::deque<uint64_t> early_;
  size_t signalled_ = 0;
};

}  // namespace datacloud
