// Which certificates of nodes count, for the server of a site: what the daemon has said last.
//
// A thread asks every `interval`, and at once, though at most each second, when a certificate is
// shown that the list lacks: it may be new. While the daemon cannot be asked the last list counts,
// for `age_max` at most; without a list no node is admitted.
//
// Thread safety: all methods from any thread.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <set>
#include <thread>

#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/base/error.h"

namespace datacloud {

class NodesInForce {
 public:
  using Serials = std::set<Bytes>;
  struct Options {
    std::function<result<Serials>()> ask;  // blocks; on the thread
    Duration interval = seconds(10);
    Duration age_max = seconds(3600);
    Duration patience = seconds(5);  // admit() waits for an answer
  };

  explicit NodesInForce(Options);
  // Waits for an unfinished question.
  ~NodesInForce();

  // Blocks until the list has it, or a list that was asked for from now on does not. EACCES: it is
  // revoked or not known; unavailable: the daemon cannot be asked.
  result<void> admit(const Bytes& serial);
  // For a connection that is open: by the list there is.
  bool holds(const Bytes& serial) const;

 private:
  void run();
  bool is_good() const;

  const Options options_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Serials serials_;
  MonotonicTime as_of_ = MonotonicTime::min();  // when it was asked for; min: never
  std::string problem_ = "it has not answered yet";
  uint64_t begun_ = 0, ended_ = 0;  // questions
  bool wanted_ = true, stopping_ = false;
  std::thread thread_;
};

}  // namespace datacloud
