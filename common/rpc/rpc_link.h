// One peer's connection as the thread that moves its bytes sees it: owns the stream, receives and
// parses requests and hands them over to be served in turn (rpc_turns.h), encodes and sends what
// ServerConnection has queued.
//
// Threads: made, and given to start(), on the loop's thread; everything else on the connection's
// own. Nobody else touches the stream, but for small frames that are sent by whoever has them
// (rpc_connection.h).
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/rpc/rpc_connection.h"
#include "common/rpc/rpc_frame.h"
#include "common/rpc/rpc_loop.h"
#include "common/rpc/rpc_threads.h"
#include "common/rpc/rpc_turns.h"

namespace datacloud {

class RpcLink : public std::enable_shared_from_this<RpcLink> {
 public:
  // Posted to the loop's thread once the connection has ended.
  using Closed = std::function<void(const std::shared_ptr<RpcLink>&)>;

  RpcLink(RpcLoop&, RpcTurns&, RpcThread&, std::unique_ptr<ByteStream>, PeerCredentials, Closed);
  ~RpcLink();

  void start();
  const std::shared_ptr<ServerConnection>& connection() const { return connection_; }
  const PeerCredentials& peer() const { return peer_; }
  // When no thread runs any more: nothing is sent or told.
  void abandon();

 private:
  void send();
  void wait_writable();
  void wait_readable();
  void read();
  void resume();
  bool handle_frames();  // false when the connection is closed or paused
  bool handle(pb::Request);
  bool refuse(const std::string& reason);
  void watch();          // for the rest of a request
  void watch_sending();  // for room, while the peer takes nothing
  void finish();         // sends what the socket takes at once: the reason for closing, say
  void close();

  RpcLoop& loop_;
  RpcTurns& turns_;
  const RpcThreadUse thread_;
  const std::shared_ptr<RpcOutput> output_;
  boost::asio::posix::stream_descriptor waiting_;  // the stream's; never closes it
  boost::asio::steady_timer stalled_, unsent_;
  const PeerCredentials peer_;
  Closed on_closed_;
  FrameReader reader_;
  uint64_t received_ = 0, received_before_ = 0;  // bytes, now and when the watch began
  uint64_t frames_ = 0, frames_before_ = 0;      // whole ones
  bool watching_ = false;                        // for the rest of a request
  bool sending_later_ = false;                   // waiting for room
  bool watching_sending_ = false;
  uint64_t left_ = 0, left_before_ = 0;  // bytes that the peer took, now and when the watch began
  bool paused_ = false;                  // not reading: too many of its requests wait
  std::shared_ptr<ServerConnection> connection_;
  std::shared_ptr<RpcTurns::Source> source_;
};

// Whose turn a peer's requests take: its node's, or its process's.
std::string client_of(const PeerCredentials&);

}  // namespace datacloud
