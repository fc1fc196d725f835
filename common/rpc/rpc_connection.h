// The sending half of a server connection: what a service sees as RpcConnection.
//
// It outlives the socket: a service may keep it as long as it likes, and replies after the end go
// nowhere. It knows nothing of Asio; the server's reading half (rpc_link.h) gives it hooks and
// calls detach() before the stream ends.
//
// Replies from the service thread are gathered until the current batch of requests is done, then
// sent with one call; from other threads they are sent at once.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>

#include "common/rpc/rpc.h"
#include "common/rpc/rpc_frame.h"

namespace datacloud {

inline constexpr size_t kQueuedBytesMax = 64u << 20;     // unsent bytes that close a connection
inline constexpr size_t kGatheredBytesMax = 256u << 10;  // sent without waiting for the batch's end
inline constexpr size_t kGatheredFramesMax = 64;

class ServerConnection final : public RpcConnection {
 public:
  // Run with the connection's lock held, from any thread: they only post to the service thread.
  struct Hooks {
    std::function<bool()> on_service_thread;
    std::function<void()> flush_soon;      // call flush() on the service thread
    std::function<void()> flush_writable;  // the same once the socket takes more
    std::function<void()> close_soon;      // detach and close on the service thread
  };

  ServerConnection(ByteStream& stream, PeerCredentials peer, Hooks hooks);

  const PeerCredentials& peer() const override { return peer_; }
  void reply(const pb::Reply&) override;
  void push(const pb::Push&) override;
  void close() override;

  void flush();
  void detach();  // the stream is about to end: drops what is queued
  bool closing() const { return closing_.load(std::memory_order_relaxed); }

  // Counts a request; false when the peer has too many unanswered ones.
  bool admit();

 private:
  void send(const pb::Frame&, uint64_t reply_id);
  void flush_locked();
  void close_locked();

  const PeerCredentials peer_;
  std::atomic<bool> closing_{false};
  std::atomic<size_t> unanswered_{0};

  std::mutex mutex_;
  Hooks hooks_;         // empty once detached
  ByteStream* stream_;  // null once detached
  FrameWriter out_;
  bool flush_posted_ = false;  // flush_soon or flush_writable is under way
};

}  // namespace datacloud
