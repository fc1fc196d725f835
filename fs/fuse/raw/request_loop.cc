// Threads that read and serve, the queue between them, and the watch over what has to end.
#include "fs/fuse/raw/request_loop.h"

#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <stop_token>

#include "common/base/log.h"

namespace datacloud {
namespace {

// The kernel's largest request: 1 MiB of data to write after a page of headers.
constexpr size_t kRequestBytesMax = (1u << 20) + 4096;
constexpr auto kLookSoon = milliseconds(20);   // while a program with a signal is watched
constexpr auto kLookOne = milliseconds(1);     // at least, for each of them
constexpr auto kLookIdle = milliseconds(500);  // for the daemon's silence
constexpr auto kLaterPatience = seconds(5);
constexpr auto kSignalAgain = milliseconds(5);  // until no thread reads any more

// Ends a read(2) of another thread, nothing else.
int wake_signal() { return SIGRTMIN + 1; }
void on_wake(int) {}

enum class Waits {
  never,      // for the daemon, a site or another request
  elsewhere,  // only through may_wait()
  anywhere,
};

Waits waits_of(const fuse_in_header& header) {
  switch (header.opcode) {
    case FUSE_INIT:
    case FUSE_DESTROY:
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_STATFS:  // replies later
      return Waits::never;
    case FUSE_FLUSH:
      return Waits::elsewhere;
    case FUSE_OPENDIR:  // of the root: always known, as df(1) needs it
    case FUSE_GETATTR:  // of the root: replies later
    case KernelChannel::kStatx:
      return header.nodeid == FUSE_ROOT_ID ? Waits::never : Waits::anywhere;
    default:
      return Waits::anywhere;
  }
}

// What a mount that was shut down still does: it lets go.
bool lets_go(uint32_t opcode) {
  switch (opcode) {
    case FUSE_INIT:
    case FUSE_DESTROY:
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
      return true;
    default:
      return false;
  }
}

fuse_in_header header_of(ByteView request) {
  fuse_in_header header{};
  std::memcpy(&header, request.data(), sizeof header);
  return header;
}

}  // namespace

RequestLoop::RequestLoop(fuse_session* session, KernelChannel& channel, uint32_t threads,
                         PendingRequests::Options options)
    : session_(session),
      channel_(channel),
      fd_(fuse_session_fd(session)),
      threads_max_(std::max(1u, threads) + 1),
      pending_(std::move(options)) {}

RequestLoop::~RequestLoop() = default;

RequestLoop::Serving*& RequestLoop::serving() {
  thread_local Serving* serving = nullptr;
  return serving;
}

int RequestLoop::run() {
  struct sigaction action {};
  action.sa_handler = on_wake;  // without SA_RESTART
  ::sigaction(wake_signal(), &action, nullptr);
  std::unique_lock lock(mutex_);
  start_thread();
  std::thread watcher([this] { watch(); });
  while (!ended_) {
    // A signal's handler cannot notify: look now and then.
    changed_.wait_for(lock, milliseconds(100));
    if (fuse_session_exited(session_)) ended_ = true;
  }
  watch_.notify_all();
  room_.notify_all();
  if (gone_) pending_.end_all();  // nobody waits any more
  while (running_ > 0) {
    for (auto& thread : threads_)
      if (thread.reads) ::pthread_kill(thread.thread.native_handle(), wake_signal());
    changed_.wait_for(lock, kSignalAgain);
  }
  lock.unlock();
  watcher.join();
  // What is answered later is not any more.
  pending_.end_all();
  const auto patience = monotonic_now() + kLaterPatience;
  while (!pending_.empty() && monotonic_now() < patience)
    std::this_thread::sleep_for(milliseconds(1));
  for (auto& thread : threads_) thread.thread.join();
  return error_;
}

void RequestLoop::start_thread() {
  // Signals that end the mount are for the main thread.
  sigset_t all, before;
  sigfillset(&all);
  sigdelset(&all, wake_signal());
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  Thread& added = threads_.emplace_back();
  ++running_;
  ++reading_;  // counted from here on, so that nobody starts another one meanwhile
  added.thread = std::thread([this, &added] { work(added); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

// The lock is held but in read(2) and while a request is served.
void RequestLoop::work(Thread& own) {
  Bytes buffer(kRequestBytesMax);
  std::unique_lock lock(mutex_);
  for (;;) {
    // Counts as reading here.
    if (!queue_.empty() && (reading_ > 1 || ended_)) {
      --reading_;
      Item item = std::move(queue_.front());
      queue_.pop_front();
      queue_bytes_ -= item.bytes.size();
      lock.unlock();
      room_.notify_all();
      serve_item(std::move(item));
      lock.lock();
      ++reading_;
      continue;
    }
    if (ended_) break;
    own.reads = true;
    lock.unlock();
    size_t size = 0;
    const bool got = read_one(buffer, size);
    lock.lock();
    own.reads = false;
    if (got) dispatch(lock, MutableByteView(buffer).first(size));
  }
  --reading_;
  --running_;
  changed_.notify_all();
}

bool RequestLoop::read_one(Bytes& buffer, size_t& size) {
  const ssize_t got = ::read(fd_, buffer.data(), buffer.size());
  if (got >= static_cast<ssize_t>(sizeof(fuse_in_header))) {
    size = static_cast<size_t>(got);
    return true;
  }
  // ENOENT: the request was taken back while it was read.
  if (got < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT)) return false;
  if (got < 0 && errno == ENODEV)
    end(0);
  else
    end(got < 0 ? -errno : -EIO);
  return false;
}

void RequestLoop::end(int error) {
  {
    std::lock_guard lock(mutex_);
    if (!ended_) error_ = error;
    ended_ = gone_ = true;
  }
  fuse_session_exit(session_);
  changed_.notify_all();
}

// Called and left with the lock held, by a thread that counts as reading.
void RequestLoop::dispatch(std::unique_lock<std::mutex>& lock, MutableByteView request) {
  const fuse_in_header header = header_of(request);
  if (header.opcode == FUSE_INTERRUPT) {
    fuse_interrupt_in interrupt{};
    if (request.size() < sizeof header + sizeof interrupt) return;
    std::memcpy(&interrupt, request.data() + sizeof header, sizeof interrupt);
    pending_.interrupt(interrupt.unique);
    watch_.notify_all();
    return;
  }
  if (channel_.is_shut_down() && !lets_go(header.opcode)) return reply_error(header.unique, EIO);
  const Waits waits = waits_of(header);
  // Somebody else should go on reading while this one waits.
  if (waits != Waits::never && reading_ == 1 && threads_.size() < threads_max_) start_thread();
  const bool others_read = reading_ > 1;
  const bool here = others_read || waits != Waits::anywhere;
  const bool may_wait = others_read && waits != Waits::never;
  PendingRequestPtr entry;
  if (may_wait || !here) entry = pending_.add(header.unique, static_cast<pid_t>(header.pid));
  if (entry && entry->early) watch_.notify_all();
  if (here) {
    --reading_;
    lock.unlock();
    serve_bytes(entry, request, may_wait);
    lock.lock();
    ++reading_;
    return;
  }
  enqueue(lock, Item{entry, Bytes(request.begin(), request.end()), nullptr, nullptr});
}

void RequestLoop::enqueue(std::unique_lock<std::mutex>& lock, Item item) {
  const size_t bytes = item.bytes.size();
  room_.wait(lock, [&] {
    return queue_.empty() || ended_ ||
           (queue_.size() < kQueueRequestsMax && queue_bytes_ + bytes <= kQueueBytesMax);
  });
  // One that ended before it got here was not found in the queue.
  if (item.request->interruption.raised()) return refuse(item);
  queue_bytes_ += bytes;
  queue_.push_back(std::move(item));
}

void RequestLoop::serve_bytes(const PendingRequestPtr& request, MutableByteView bytes,
                              bool may_wait) {
  channel_.name_root(bytes);
  bytes = channel_.received(bytes);
  Serving now{this, request, may_wait, false};
  if (!request) {
    const fuse_in_header header = header_of(bytes);
    now.request = std::make_shared<PendingRequest>();
    now.request->unique = header.unique;
    now.request->caller = static_cast<pid_t>(header.pid);
  }
  Serving* const outer = std::exchange(serving(), &now);
  {
    InterruptionScope scope(now.request->interruption);
    fuse_buf buffer{};
    buffer.mem = bytes.data();
    buffer.size = bytes.size();
    fuse_session_process_buf(session_, &buffer);
  }
  serving() = outer;
  if (request && !now.deferred) pending_.remove(request->unique);
}

void RequestLoop::serve_item(Item item) {
  if (!item.work) return serve_bytes(item.request, item.bytes, true);
  {
    Serving now{this, item.request, true, false};
    Serving* const outer = std::exchange(serving(), &now);
    InterruptionScope scope(item.request->interruption);
    item.work();
    serving() = outer;
    if (now.deferred) return;
  }
  pending_.remove(item.request->unique);
}

bool RequestLoop::this_thread_may_wait() { return !serving() || serving()->may_wait; }

void RequestLoop::may_wait(std::function<void()> work, std::function<void(const Error&)> refuse) {
  Serving* const now = serving();
  if (this_thread_may_wait()) return work();
  now->deferred = true;
  RequestLoop& loop = *now->loop;
  const auto entry = loop.pending_.add(now->request->unique, now->request->caller);
  std::lock_guard lock(loop.mutex_);
  if (entry->early) loop.watch_.notify_all();
  // A thread that is free takes it; where all threads read, this one goes on to.
  if (loop.reading_ == 0 && loop.threads_.size() < loop.threads_max_ && !loop.ended_)
    loop.start_thread();
  loop.queue_.push_back(Item{entry, {}, std::move(work), std::move(refuse)});
}

class RequestLoop::Later {
 public:
  Later(RequestLoop* loop, PendingRequestPtr request) : loop_(loop), request_(std::move(request)) {}
  ~Later() {
    ended_.reset();
    if (loop_ != nullptr) loop_->pending_.remove(request_->unique);
  }
  void watch(const std::shared_ptr<Later>& self, std::function<void()> on_signal,
             std::function<void(const Error&)> on_end) {
    const std::weak_ptr<Later> weak = self;
    ended_.emplace(request_->interruption.token(), [weak, on_end = std::move(on_end)] {
      if (const auto alive = weak.lock()) on_end(alive->request_->interruption.error());
    });
    if (loop_ == nullptr) return;
    loop_->pending_.on_signal(request_, [weak, on_signal = std::move(on_signal)] {
      if (const auto alive = weak.lock()) on_signal();
    });
  }

 private:
  RequestLoop* const loop_;  // null: no loop serves it (tests)
  const PendingRequestPtr request_;
  std::optional<std::stop_callback<std::function<void()>>> ended_;
};

std::shared_ptr<RequestLoop::Later> RequestLoop::reply_later(
    std::function<void()> on_signal, std::function<void(const Error&)> on_end) {
  Serving* const now = serving();
  auto later = std::make_shared<Later>(now ? now->loop : nullptr,
                                       now ? now->request : std::make_shared<PendingRequest>());
  if (now) now->deferred = true;
  later->watch(later, std::move(on_signal), std::move(on_end));
  return later;
}

// Ends queued requests whose program was killed or whose time is over; those that are being served
// end by their interruption.
void RequestLoop::watch() {
  std::unique_lock lock(mutex_);
  while (!ended_) {
    // Each look at a program reads two files of /proc: of many programs not so often.
    const auto watched = pending_.watched();
    const Duration soon = std::max<Duration>(kLookSoon, watched * kLookOne);
    watch_.wait_for(lock, watched == 0 ? kLookIdle : std::min<Duration>(soon, kLookIdle));
    lock.unlock();
    for (const auto& request : pending_.end_due()) drop_from_queue(request);
    lock.lock();
  }
}

void RequestLoop::drop_from_queue(const PendingRequestPtr& request) {
  std::list<Item> dropped;
  {
    std::lock_guard lock(mutex_);
    const auto it = std::find_if(queue_.begin(), queue_.end(),
                                 [&](const Item& item) { return item.request == request; });
    if (it == queue_.end()) return;
    queue_bytes_ -= it->bytes.size();
    dropped.splice(dropped.begin(), queue_, it);
  }
  room_.notify_all();
  refuse(dropped.front());
}

void RequestLoop::refuse(const Item& item) {
  pending_.remove(item.request->unique);
  const Error error = item.request->interruption.error();
  if (item.refuse)
    item.refuse(error);
  else
    reply_error(item.request->unique, error.errno_value());
}

void RequestLoop::reply_error(uint64_t unique, int error) {
  fuse_out_header header{};
  header.len = sizeof header;
  header.error = -error;
  header.unique = unique;
  const iovec part{&header, sizeof header};
  (void)channel_.send(fd_, &part, 1);
}

}  // namespace datacloud
