// Drops the kernel's pages of what an O_DIRECT write has changed, before the write is answered.
//
// The kernel does that by itself after a synchronous write, and for asynchronous ones on local file
// systems, but not for asynchronous ones on FUSE: buffered readers and mappings would go on showing
// what was there before. It must not be asked to from a thread that serves requests: it may wait
// for a page that is locked until a read of it is answered. So the reply waits here, not a thread.
//
// That read may be behind this very write in the kernel, which sends so many asynchronous requests
// at once and no more (max_background); then neither would end. A read that was not sent yet will
// see what was written, so after kPatience the write is answered, and the pages go when they can.
//
// Bound: one entry for each write that the kernel waits for; kThreads threads.
//
// Thread safety: all methods from any thread.
#pragma once

#include <condition_variable>
#include <functional>
#include <list>
#include <mutex>
#include <thread>

#include "common/base/clock.h"
#include "common/base/executor.h"
#include "fs/fuse/kernel_notifier.h"

namespace datacloud {

class PageInvalidator {
 public:
  static constexpr int kThreads = 4;
  static constexpr Duration kPatience = seconds(10);

  explicit PageInvalidator(KernelNotifier& kernel);
  ~PageInvalidator();  // after all replies have been sent

  // `reply` runs once, when no page shows what was there before or kPatience has passed. It must
  // not block.
  void drop(InodeId, uint64_t offset, uint64_t length, std::function<void()> reply);

 private:
  struct Waiting {
    MonotonicTime until;
    std::function<void()> reply;  // null once it has run
  };
  using Place = std::list<Waiting>::iterator;
  void answer_late();

  KernelNotifier& kernel_;
  std::mutex mutex_;
  std::condition_variable ended_;
  std::list<Waiting> waiting_;  // by `until`
  bool stop_ = false;
  std::thread late_;
  Executor threads_{kThreads, 1};
};

}  // namespace datacloud
