// A fixed pool of threads for CPU work (compress, seal, encode, decode, open).
//
// Bounded: submit() blocks while `queue_max` tasks wait, so that producers feel the limit.
// Destruction runs what was accepted, then joins. Tasks may submit() only through try_submit().
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace datacloud {

class Executor {
 public:
  Executor(int threads, size_t queue_max);
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  void submit(std::function<void()> task);
  // Never blocks and never refuses: for completions that must not wait (counted by their owner).
  void post(std::function<void()> task);
  // Runs what was accepted, and what that posts, then joins. Once, by the owner.
  void finish();

 private:
  void run();

  const size_t queue_max_;
  std::mutex mutex_;
  std::condition_variable work_, room_;
  std::deque<std::function<void()>> queue_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace datacloud
