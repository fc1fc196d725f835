// Requests, replies and the I/O thread of the RPC client (rpc_client.h).
#include "common/rpc/rpc_client.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <semaphore>

#include "common/base/log.h"

namespace datacloud {
namespace {

// Longest sleep of the I/O thread: deadlines of calls made meanwhile are noticed this late at most.
constexpr auto kTick = milliseconds(200);
constexpr int kReadsPerWakeMax = 16;

int milliseconds_until(MonotonicTime t) {
  const auto left = std::chrono::ceil<milliseconds>(t - monotonic_now());
  return static_cast<int>(std::clamp(left, milliseconds(0), milliseconds(kTick)).count());
}

}  // namespace

result<pb::Reply> RpcClient::call(pb::Request request) {
  struct Waiter {
    std::binary_semaphore done{0};
    std::optional<result<pb::Reply>> reply;
  };
  auto waiter = std::make_shared<Waiter>();
  call(std::move(request), [waiter](result<pb::Reply> reply) {
    waiter->reply.emplace(std::move(reply));
    waiter->done.release();
  });
  waiter->done.acquire();
  return std::move(*waiter->reply);
}

RpcSessionClient::RpcSessionClient(Options options, Keeping keeping)
    : options_(std::move(options)),
      keeping_(std::move(keeping)),
      known_(options_.known ? options_.known
                            : std::make_shared<KnownAddresses>(options_.addresses)) {}

RpcSessionClient::~RpcSessionClient() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake();
  if (thread_.joinable()) thread_.join();
  if (wake_fd_ >= 0) ::close(wake_fd_);
}

uint64_t RpcSessionClient::session() const {
  std::lock_guard lock(mutex_);
  return session_;
}

bool RpcSessionClient::connected() const {
  std::lock_guard lock(mutex_);
  return state_ == State::up;
}

MonotonicTime RpcSessionClient::lease_end() const {
  std::lock_guard lock(mutex_);
  // The daemon's clock may have gone on while this machine was suspended, ours has not.
  return lease_end_ - (options_.suspended() - lease_suspended_);
}

uint32_t RpcSessionClient::protocol() const {
  std::lock_guard lock(mutex_);
  return protocol_;
}

Duration RpcSessionClient::silence() const {
  std::lock_guard lock(mutex_);
  return monotonic_now() - heard_;
}

void RpcSessionClient::call(pb::Request request, Callback callback) {
  call_until_known(std::move(request), std::move(callback), nullptr);
}

void RpcSessionClient::call_until_known(pb::Request request, Callback callback, Callback late) {
  std::optional<Error> refused;
  {
    std::lock_guard lock(mutex_);
    request.set_id(next_id_);
    request.set_acknowledged(unsettled() - 1);
    Pending pending;
    pending.keepalive = request.has_keepalive();
    pending.after_loss = after_loss(request);
    pending.change = is_change(request);
    pending.may_open = request.has_create() && !request.create().exclusive();
    pending.ino = request.create().ino();
    pb::Frame frame;
    frame.mutable_request()->Swap(&request);
    auto encoded = encode_frame(frame);
    if (!encoded) {
      refused = encoded.error();
    } else if (stop_) {
      refused = Error(Errc::unavailable, "the connection to the daemon is being closed");
    } else if (pending_.size() >= kRequestsInFlightMax) {
      refused = Error(Errc::unavailable, "too many unanswered requests to the daemon");
    } else {
      pending.frame = encoded.value();
      pending.callback = std::move(callback);
      pending.late = std::move(late);
      pending.sent = monotonic_now();
      pending.suspended = options_.suspended();
      pending.held_back = state_ == State::up && pending.change && (held_back_ > 0 || !has_room());
      // Another mount's kept request may wait for it, and this one's for an answer of the other.
      const bool in_between = state_ == State::resending && frame.request().has_recall_done();
      count(pending);
      Pending& added =
          pending_.emplace_hint(pending_.end(), next_id_++, std::move(pending))->second;
      if ((state_ == State::up && !added.held_back) || in_between)
        added.maybe_delivered = transmit(std::move(encoded).value());
    }
  }
  if (refused) callback(failure(*refused));
}

// The lowest id that may have to be sent again.
uint64_t RpcSessionClient::unsettled() const {
  const uint64_t pending = pending_.empty() ? next_id_ : pending_.begin()->first;
  return kept_.first() == 0 ? pending : std::min(pending, kept_.first());
}

bool RpcSessionClient::transmit(SharedFrame frame) {
  const bool direct = out_.empty();
  out_.push(std::move(frame));
  // When something is queued, the I/O thread is waiting for room already. A broken socket is
  // noticed by the I/O thread, which reads from it.
  if (!direct) return true;
  const auto state = out_.write_to(*stream_);
  if (state == FrameWriter::State::blocked) wake();
  return state != FrameWriter::State::broken;
}

RpcSessionClient::PendingMap RpcSessionClient::take_lost(bool known) {
  PendingMap lost;
  for (auto it = pending_.begin(); it != pending_.end();) {
    const auto request = it++;
    if (!request->second.maybe_delivered) continue;
    const AfterLoss fate = request->second.after_loss;
    if (fate == AfterLoss::again || (known && fate == AfterLoss::inherited)) continue;
    discount(request->second);
    lost.insert(pending_.extract(request));
  }
  return lost;
}

void RpcSessionClient::wake() const {
  const uint64_t one = 1;
  if (wake_fd_ >= 0) (void)!::write(wake_fd_, &one, sizeof(one));
}

void RpcSessionClient::run() {
  for (;;) {
    {
      std::lock_guard lock(mutex_);
      if (stop_) break;
    }
    expire_overdue();
    {
      std::lock_guard lock(mutex_);
      if (held_back_ > 0) get_room();
    }
    if (stream_ && (remote_ || several_)) end_silence();
    if (!stream_ && !dial_ && monotonic_now() >= retry_at_) connect_now();
    poll_once();
  }
  PendingMap left;
  {
    std::lock_guard lock(mutex_);
    left.swap(pending_);
    state_ = State::down;
  }
  fail(std::move(left), Error(Errc::unavailable, "the connection to the daemon was closed"));
}

void RpcSessionClient::poll_once() {
  pollfd fds[2] = {{wake_fd_, POLLIN, 0}, {-1, POLLIN, 0}};
  MonotonicTime until = MonotonicTime::max();
  if (stream_)
    fds[1].fd = stream_->fd();
  else if (dial_)
    fds[1].fd = dial_->ready_fd();
  else
    until = retry_at_;
  {
    std::lock_guard lock(mutex_);
    if (stream_ && (!out_.empty() || stream_->receive_waits_for_room())) fds[1].events |= POLLOUT;
    if (!pending_.empty()) {
      until = std::min(until, pending_.begin()->second.sent + options_.deadline);
    }
    if (stop_) return;
  }
  until = unread_ ? monotonic_now() : std::min(until, monotonic_now() + kTick);
  if (::poll(fds, 2, milliseconds_until(until)) <= 0 && !unread_) return;
  if (fds[0].revents != 0) {
    uint64_t count;
    (void)!::read(wake_fd_, &count, sizeof(count));
  }
  if (!stream_) {
    if (fds[1].revents != 0) take_dialled();
    return;
  }
  const bool room = (fds[1].revents & POLLOUT) != 0;
  const bool readable =
      (fds[1].revents & ~POLLOUT) != 0 || unread_ || (room && stream_->receive_waits_for_room());
  if (room) {
    std::lock_guard lock(mutex_);
    out_.write_to(*stream_);
  }
  if (readable && !receive()) disconnect("the daemon closed the connection");
}

bool RpcSessionClient::receive() {
  unread_ = false;
  for (int i = 0; i < kReadsPerWakeMax; i++) {
    const MutableByteView space = reader_.space();
    const auto got = stream_->receive(space);
    if (got.state != ByteStream::State::done) return got.state == ByteStream::State::blocked;
    reader_.filled(got.bytes);
    {
      std::lock_guard lock(mutex_);
      heard_ = monotonic_now();
    }
    for (;;) {
      pb::Frame frame;
      auto more = reader_.next(frame);
      if (!more) {
        spdlog::warn("RPC: the daemon sent a {}: reconnecting", more.error().text());
        return false;
      }
      if (!more.value()) break;
      if (!handle(frame)) return true;  // closed by its handler already
    }
    if (!got.more) return true;
  }
  unread_ = true;
  return true;
}

bool RpcSessionClient::handle(pb::Frame& frame) {
  if (frame.has_push()) {
    if (frame.push().has_committed()) {
      std::lock_guard lock(mutex_);
      note_committed(frame.push().committed());
      return true;
    }
    if (options_.on_push) options_.on_push(frame.push());
    return true;
  }
  if (!frame.has_reply()) {
    disconnect("the daemon sent a frame that is neither reply nor push");
    return false;
  }
  if (frame.reply().id() == 0) return handle_hello(frame.reply());
  handle_reply(std::move(*frame.mutable_reply()));
  return true;
}

void RpcSessionClient::handle_reply(pb::Reply reply) {
  sequence_ = std::max(sequence_, reply.sequence());
  if (reply.has_keepalive()) known_->told(reply.keepalive(), !remote_);
  if (redone(reply)) return;
  Callback callback;
  {
    std::lock_guard lock(mutex_);
    note_committed(reply.committed());
    auto it = pending_.find(reply.id());
    if (it == pending_.end()) {  // its deadline has passed
      const auto late = late_.find(reply.id());
      if (late == late_.end()) return;
      callback = std::move(late->second);
      late_.erase(late);
    } else if (it->second.keepalive && reply.has_keepalive() && reply.error() == 0) {
      const auto end = it->second.sent + milliseconds(reply.keepalive().lease_ms());
      if (end > lease_end_) {
        lease_end_ = end;
        lease_suspended_ = it->second.suspended;
      }
      note_position(reply.keepalive().journal_position());
    }
    if (it != pending_.end()) {
      keep(reply.id(), it->second, reply);
      discount(it->second);
      callback = std::move(it->second.callback);
      pending_.erase(it);
    }
  }
  auto status = reply_error(reply);
  if (status) {
    callback(std::move(reply));
  } else {
    callback(failure(status.error()));
  }
}

void RpcSessionClient::expire_overdue() {
  const auto limit = monotonic_now() - options_.deadline;
  PendingMap overdue;
  Error error;
  {
    std::lock_guard lock(mutex_);
    while (!pending_.empty() && pending_.begin()->second.sent <= limit) {
      discount(pending_.begin()->second);
      overdue.insert(pending_.extract(pending_.begin()));
    }
    if (overdue.empty()) return;
    error = unreachable();
  }
  // Sent ones may be executed yet. Those of a broken connection have been, or never will be.
  PendingMap unknown;
  {
    std::lock_guard lock(mutex_);
    for (auto& [id, request] : overdue) {
      if (!request.late) continue;
      if (state_ == State::up && late_.size() < kRequestsInFlightMax)
        late_.emplace(id, std::move(request.late));
      else
        unknown[id].callback = std::move(request.late);
    }
  }
  fail(std::move(overdue), error);
  fail(std::move(unknown), error);
}

// The connection is gone: nobody will say any more what became of them.
void RpcSessionClient::lose_late_answers() {
  std::map<uint64_t, Callback> lost;
  {
    std::lock_guard lock(mutex_);
    lost.swap(late_);
  }
  for (auto& [id, late] : lost)
    late(failure(Errc::unavailable, "the connection broke before the daemon answered"));
}

void RpcSessionClient::fail(PendingMap requests, const Error& error) {
  for (auto& [id, request] : requests) request.callback(failure(error));
}

}  // namespace datacloud
