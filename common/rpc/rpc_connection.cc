// Queueing of replies (rpc_connection.h). Whoever queues too much without reading loses its
// connection: the daemon's memory never depends on a peer's good will.
#include "common/rpc/rpc_connection.h"

#include <fmt/format.h>

#include <utility>

#include "common/base/log.h"
#include "common/rpc/rpc_threads.h"

namespace datacloud {
namespace {

constexpr uint64_t kUnmadeBytes = 1024;       // what a reply counts that is still to be made
constexpr uint64_t kSentHereBytesMax = 4096;  // more is left to the threads that move bytes

}  // namespace

ServerConnection::ServerConnection(PeerCredentials peer, Hooks hooks)
    : peer_(std::move(peer)), hooks_(std::move(hooks)) {}

bool ServerConnection::admit() {
  if (unanswered_.load() >= kRequestsInFlightMax) return false;
  unanswered_++;
  return true;
}

void ServerConnection::answered() {
  size_t unanswered = unanswered_.load();
  while (unanswered > 0 && !unanswered_.compare_exchange_weak(unanswered, unanswered - 1)) {
  }
}

void ServerConnection::reply(pb::Reply reply) {
  answered();
  auto frame = std::make_unique<pb::Frame>();
  *frame->mutable_reply() = std::move(reply);
  send(std::move(frame));
}

void ServerConnection::reply_with(std::function<pb::Reply()> make) {
  answered();
  std::lock_guard lock(mutex_);
  if (enqueue_locked({nullptr, std::move(make), kUnmadeBytes})) hooks_.send_soon();
}

void ServerConnection::push(const pb::Push& push) {
  auto frame = std::make_unique<pb::Frame>();
  *frame->mutable_push() = push;
  send(std::move(frame));
}

uint64_t ServerConnection::fit(std::unique_ptr<pb::Frame>& frame) {
  const size_t bytes = frame->ByteSizeLong();
  if (bytes <= kFrameBytesMax) return kFrameHeaderBytes + bytes;
  const Error error(Errc::invalid, fmt::format("an RPC message of {} bytes exceeds the limit of {}",
                                               bytes, kFrameBytesMax));
  spdlog::error("RPC: {}", error.text());
  if (!frame->has_reply()) return 0;
  const uint64_t id = frame->reply().id();
  frame = std::make_unique<pb::Frame>();
  frame->mutable_reply()->set_id(id);
  set_error(*frame->mutable_reply(), error);
  return kFrameHeaderBytes + frame->ByteSizeLong();
}

void ServerConnection::send(std::unique_ptr<pb::Frame> frame) {
  const uint64_t bytes = fit(frame);
  if (bytes == 0) return;
  std::shared_ptr<RpcOutput> output;
  {
    std::lock_guard lock(mutex_);
    if (!enqueue_locked({std::move(frame), nullptr, bytes})) return;
    // A thread that moves bytes sends all that it has caused when it is through with it.
    if (bytes <= kSentHereBytesMax && !RpcThreads::inside()) output = hooks_.output;
    if (!output) return hooks_.send_soon();
  }
  send_here(output);
}

bool ServerConnection::enqueue_locked(Queued queued) {
  if (closing()) return false;
  queued_ += queued.bytes;
  if (queued_ > kQueuedBytesMax) {
    spdlog::warn("RPC: {} does not read its replies: connection closed", peer_.describe());
    frames_.clear();
    closing_ = true;
    hooks_.close_soon();
    return false;
  }
  frames_.push_back(std::move(queued));
  return !std::exchange(sending_, true);
}

// Sends one frame. All else is left to the connection's thread: what has come meanwhile, what does
// not fit into the socket, and a connection that is broken.
void ServerConnection::send_here(const std::shared_ptr<RpcOutput>& output) {
  std::unique_lock lock(output->mutex, std::try_to_lock);
  if (lock && output->out.empty()) {
    const auto frame = next_small();
    if (!frame) return;
    if (auto encoded = encode_frame(*frame)) output->out.push(std::move(encoded).value());
    const size_t before = output->out.bytes();
    const auto state = output->out.write_to(*output->stream);
    sent(before - output->out.bytes());
    lock.unlock();
    std::lock_guard queue(mutex_);
    if (state == FrameWriter::State::empty && frames_.empty()) {
      sending_ = false;
      return;
    }
    if (hooks_.send_soon) hooks_.send_soon();
    return;
  }
  std::lock_guard queue(mutex_);
  if (hooks_.send_soon) hooks_.send_soon();
}

// The next frame, if it is small and made. Null: somebody else sends, or will.
std::unique_ptr<pb::Frame> ServerConnection::next_small() {
  std::lock_guard lock(mutex_);
  if (frames_.empty()) {
    sending_ = false;
    return nullptr;
  }
  if (frames_.front().make || frames_.front().bytes > kSentHereBytesMax) {
    if (hooks_.send_soon) hooks_.send_soon();
    return nullptr;
  }
  auto frame = std::move(frames_.front().frame);
  frames_.pop_front();
  return frame;
}

std::unique_ptr<pb::Frame> ServerConnection::next() {
  Queued next;
  {
    std::lock_guard lock(mutex_);
    if (frames_.empty()) {
      sending_ = false;
      return nullptr;
    }
    next = std::move(frames_.front());
    frames_.pop_front();
  }
  if (next.make) {
    next.frame = std::make_unique<pb::Frame>();
    *next.frame->mutable_reply() = next.make();
    queued_ += fit(next.frame);
    queued_ -= kUnmadeBytes;
  }
  return std::move(next.frame);
}

void ServerConnection::close() {
  std::lock_guard lock(mutex_);
  if (closing_.exchange(true)) return;
  hooks_.close_soon();
}

void ServerConnection::detach() {
  std::deque<Queued> dropped;  // after the lock, as the stream
  Hooks hooks;
  std::lock_guard lock(mutex_);
  closing_ = true;
  dropped.swap(frames_);
  std::swap(hooks, hooks_);
}

}  // namespace datacloud
