// Reads the kernel's requests and has them served, in the place of libfuse's loop.
//
// libfuse's threads serve what they have read; when all of them wait for a daemon that is away,
// nobody reads any more, and the kernel can neither tell that a waiting program was killed nor that
// an inode is forgotten. Here one thread always reads:
//  * the thread that reads a request serves it, as long as another thread stays to read;
//  * the last one that could read serves only what need not wait (FORGET, RELEASE, STATFS, ...) and
//    puts everything else into a queue, from which threads that become free take.
//
// Bounds: `threads` threads serve and one reads; the queue holds kQueueRequestsMax requests of
// kQueueBytesMax bytes. A full queue stops the reading until there is room again; programs whose
// requests are still in the kernel can be killed all the same, and the deadline of what is queued
// makes room while the daemon is silent.
//
// Invariant: every request gets exactly one reply: by its operation, or, when it ended while it was
// queued, by the loop, and then no operation sees it.
#pragma once

#include <fuse3/fuse_lowlevel.h>

#include <atomic>
#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "common/base/bytes.h"
#include "fs/fuse/raw/kernel_channel.h"
#include "fs/fuse/raw/pending_requests.h"

namespace datacloud {

class RequestLoop {
 public:
  static constexpr size_t kQueueRequestsMax = 16384;
  static constexpr size_t kQueueBytesMax = 64u << 20;

  // `threads`: at least one. Session and channel must outlive the loop.
  RequestLoop(fuse_session* session, KernelChannel& channel, uint32_t threads,
              PendingRequests::Options options);
  ~RequestLoop();

  // Until the file system is unmounted or fuse_session_exit(), which a signal to the calling thread
  // brings. What is queued then is served, unless nobody waits for it any more. Returns 0 or a
  // negative errno.
  int run();

  // What an operation may not do on the thread that reads. Called by an operation for the request
  // it serves: runs `work` now where this thread may wait, else on one that may. `refuse` is called
  // in its place when the request ends before. Either has to reply.
  static bool this_thread_may_wait();
  static void may_wait(std::function<void()> work, std::function<void(const Error&)> refuse);

  // A request that is answered later, by whatever thread, while this one goes on: called by its
  // operation. `on_signal` runs for any signal of the program, `on_end` when nobody waits any more
  // (with the reason); neither after the last pointer is gone. They may run on this thread before
  // this returns and must not block.
  class Later;
  static std::shared_ptr<Later> reply_later(std::function<void()> on_signal,
                                            std::function<void(const Error&)> on_end);

 private:
  struct Item {
    PendingRequestPtr request;
    Bytes bytes;  // of a request that libfuse has not seen, else:
    std::function<void()> work;
    std::function<void(const Error&)> refuse;
  };
  struct Thread {
    std::thread thread;
    std::atomic<bool> reads{false};
  };
  // What the operations called by this thread know of the request they serve.
  struct Serving {
    RequestLoop* loop = nullptr;
    PendingRequestPtr request;
    bool may_wait = false;
    bool deferred = false;
  };
  static Serving*& serving();

  void start_thread();  // with the lock held
  void work(Thread& own);
  bool read_one(Bytes& buffer, size_t& size);
  void dispatch(std::unique_lock<std::mutex>&, MutableByteView request);
  void serve_bytes(const PendingRequestPtr&, MutableByteView, bool may_wait);
  void serve_item(Item item);
  void enqueue(std::unique_lock<std::mutex>&, Item item);
  void watch();
  void drop_from_queue(const PendingRequestPtr&);
  void refuse(const Item&);
  void reply_error(uint64_t unique, int error);
  void end(int error);

  fuse_session* const session_;
  KernelChannel& channel_;
  const int fd_;
  const size_t threads_max_;
  PendingRequests pending_;

  std::mutex mutex_;
  std::condition_variable room_, changed_;
  std::list<Item> queue_;
  size_t queue_bytes_ = 0;
  std::list<Thread> threads_;
  size_t reading_ = 0;  // threads in read(2)
  size_t running_ = 0;  // threads that have not ended
  bool ended_ = false;  // no more reading
  bool gone_ = false;   // the kernel has no file system any more
  int error_ = 0;
  std::condition_variable watch_;
};

}  // namespace datacloud
