// Queueing and sending of replies (rpc_connection.h). Whoever queues too much without reading loses
// its connection: the daemon's memory never depends on a peer's good will.
#include "common/rpc/rpc_connection.h"

#include "common/base/log.h"

namespace datacloud {

ServerConnection::ServerConnection(ByteStream& stream, PeerCredentials peer, Hooks hooks)
    : peer_(std::move(peer)), hooks_(std::move(hooks)), stream_(&stream) {}

bool ServerConnection::admit() {
  if (unanswered_.load() >= kRequestsInFlightMax) return false;
  unanswered_++;
  return true;
}

void ServerConnection::reply(const pb::Reply& reply) {
  size_t unanswered = unanswered_.load();
  while (unanswered > 0 && !unanswered_.compare_exchange_weak(unanswered, unanswered - 1)) {
  }
  pb::Frame frame;
  *frame.mutable_reply() = reply;
  send(frame, reply.id());
}

void ServerConnection::push(const pb::Push& push) {
  pb::Frame frame;
  *frame.mutable_push() = push;
  send(frame, 0);
}

void ServerConnection::send(const pb::Frame& frame, uint64_t reply_id) {
  auto encoded = encode_frame(frame);
  if (!encoded) {
    spdlog::error("RPC: {}", encoded.error().text());
    if (!frame.has_reply()) return;
    pb::Frame instead;
    instead.mutable_reply()->set_id(reply_id);
    set_error(*instead.mutable_reply(), encoded.error());
    encoded = encode_frame(instead);
  }
  std::lock_guard lock(mutex_);
  if (stream_ == nullptr || closing()) return;
  out_.push(std::move(encoded).value());
  if (out_.bytes() > kQueuedBytesMax) {
    spdlog::warn("RPC: {} does not read its replies: connection closed", peer_.describe());
    out_.clear();
    close_locked();
    return;
  }
  if (flush_posted_ && out_.bytes() <= kGatheredBytesMax) return;
  const bool gather = hooks_.on_service_thread() && out_.bytes() <= kGatheredBytesMax &&
                      out_.frames() <= kGatheredFramesMax;
  if (!gather) return flush_locked();
  flush_posted_ = true;
  hooks_.flush_soon();
}

void ServerConnection::flush() {
  std::lock_guard lock(mutex_);
  flush_posted_ = false;
  flush_locked();
}

void ServerConnection::flush_locked() {
  if (stream_ == nullptr) return;
  switch (out_.write_to(*stream_)) {
    case FrameWriter::State::empty:
      return;
    case FrameWriter::State::blocked:
      if (!flush_posted_) {
        flush_posted_ = true;
        hooks_.flush_writable();
      }
      return;
    case FrameWriter::State::broken:
      close_locked();
  }
}

void ServerConnection::close() {
  std::lock_guard lock(mutex_);
  if (stream_ == nullptr || closing()) return;
  out_.write_to(*stream_);  // what the socket takes at once: the reason for closing, say
  close_locked();
}

void ServerConnection::close_locked() {
  if (closing_.exchange(true)) return;
  if (stream_ != nullptr) hooks_.close_soon();
}

void ServerConnection::detach() {
  std::lock_guard lock(mutex_);
  closing_ = true;
  stream_ = nullptr;
  out_.clear();
  hooks_ = {};
}

}  // namespace datacloud
