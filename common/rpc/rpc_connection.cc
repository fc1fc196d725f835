// Queueing of replies (rpc_connection.h). Whoever queues too much without reading loses its
// connection: the daemon's memory never depends on a peer's good will.
#include "common/rpc/rpc_connection.h"

#include <fmt/format.h>

#include <utility>

#include "common/base/log.h"

namespace datacloud {
namespace {

constexpr uint64_t kUnmadeBytes = 1024;  // what a reply counts that is still to be made

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
  enqueue_locked({nullptr, std::move(make)}, kUnmadeBytes);
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
  std::lock_guard lock(mutex_);
  enqueue_locked({std::move(frame), nullptr}, bytes);
}

void ServerConnection::enqueue_locked(Queued queued, uint64_t bytes) {
  if (closing()) return;
  queued_ += bytes;
  if (queued_ > kQueuedBytesMax) {
    spdlog::warn("RPC: {} does not read its replies: connection closed", peer_.describe());
    frames_.clear();
    closing_ = true;
    return hooks_.close_soon();
  }
  frames_.push_back(std::move(queued));
  if (!std::exchange(sending_, true)) hooks_.send_soon();
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
  std::deque<Queued> dropped;  // after the lock
  std::lock_guard lock(mutex_);
  closing_ = true;
  dropped.swap(frames_);
  hooks_ = {};
}

}  // namespace datacloud
