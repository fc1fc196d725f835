// The sending half of a server connection: what a service sees as RpcConnection.
//
// It outlives the socket: a service may keep it as long as it likes, and replies after the end go
// nowhere. It queues: the connection's own thread (rpc_link.h) takes frames out in their order,
// encodes and sends them, many at a time when it is behind. A small frame that finds nothing in
// front of it is sent at once by whoever has it (RpcOutput): that costs less than waking the other.
//
// Bounds: kQueuedBytesMax of replies that the peer has not taken close the connection; unanswered
// requests: kRequestsInFlightMax.
//
// Thread safety: all methods from any thread; next(), sent() and detach() are the link's.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

#include "common/net/byte_stream.h"
#include "common/rpc/rpc.h"
#include "common/rpc/rpc_frame.h"

namespace datacloud {

inline constexpr size_t kQueuedBytesMax = 64u << 20;  // unsent bytes that close a connection

// Where the frames of a connection leave. Whoever takes them out of the queue holds the lock until
// he has written them, so that they leave in their order.
struct RpcOutput {
  explicit RpcOutput(std::unique_ptr<ByteStream> s) : stream(std::move(s)) {}
  const std::unique_ptr<ByteStream> stream;  // received from by the connection's thread
  std::mutex mutex;
  FrameWriter out;
};

class ServerConnection final : public RpcConnection {
 public:
  // Run with the connection's lock held, from any thread: they only post to the connection's.
  struct Hooks {
    std::function<void()> send_soon;    // there are frames: take them until next() gives none
    std::function<void()> close_soon;   // send what can be sent at once, then close
    std::shared_ptr<RpcOutput> output;  // null: only the connection's thread sends
  };

  ServerConnection(PeerCredentials peer, Hooks hooks);

  const PeerCredentials& peer() const override { return peer_; }
  void reply(pb::Reply) override;
  void reply_with(std::function<pb::Reply()> make) override;
  void push(const pb::Push&) override;
  void close() override;

  // The next frame to send, made now if need be; null: none, and send_soon will be called for the
  // next.
  std::unique_ptr<pb::Frame> next();
  // So many bytes of what next() gave have left, headers included.
  void sent(uint64_t bytes) { queued_ -= bytes; }
  void detach();  // the link is about to end: drops what is queued
  bool closing() const { return closing_.load(std::memory_order_relaxed); }

  // Counts a request; false when the peer has too many unanswered ones.
  bool admit();

 private:
  struct Queued {
    std::unique_ptr<pb::Frame> frame;  // or
    std::function<pb::Reply()> make;
    uint64_t bytes = 0;
  };
  // Of a frame that may be sent, with its header; a reply that is too long becomes an error, a push
  // is left out (0).
  static uint64_t fit(std::unique_ptr<pb::Frame>&);
  void answered();
  void send(std::unique_ptr<pb::Frame>);
  // True: nothing was in front of it, and somebody has to send.
  bool enqueue_locked(Queued);
  void send_here(const std::shared_ptr<RpcOutput>&);
  std::unique_ptr<pb::Frame> next_small();

  const PeerCredentials peer_;
  std::atomic<bool> closing_{false};
  std::atomic<size_t> unanswered_{0};
  std::atomic<uint64_t> queued_{0};  // bytes that have not left, headers included

  std::mutex mutex_;
  Hooks hooks_;  // empty once detached
  std::deque<Queued> frames_;
  bool sending_ = false;  // somebody sends, or send_soon was called
};

}  // namespace datacloud
