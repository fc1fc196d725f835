// The reading half of a server connection: owns the stream, lives in Asio's handlers, all on the
// service thread. The sending half is ServerConnection.
#pragma once

#include <functional>
#include <memory>

#include "common/rpc/rpc_connection.h"
#include "common/rpc/rpc_frame.h"
#include "common/rpc/rpc_loop.h"

namespace datacloud {

class RpcLink : public std::enable_shared_from_this<RpcLink> {
 public:
  using Closed = std::function<void(const std::shared_ptr<RpcLink>&)>;

  RpcLink(RpcLoop&, std::unique_ptr<ByteStream>, PeerCredentials, Closed);
  ~RpcLink();

  void start();
  void close();
  const PeerCredentials& peer() const { return peer_; }
  // Closes it when the peer has not got a session by then.
  void expect_session_within(Duration, std::function<void()> told);

 private:
  void post_to(std::weak_ptr<RpcLink>, void (*action)(RpcLink&));
  void wait_writable();
  void wait_readable();
  void read();
  bool handle_frames();  // false when the connection is closed
  void handle(pb::Request);
  bool refuse(const std::string& reason);

  RpcLoop& loop_;
  const std::unique_ptr<ByteStream> stream_;
  boost::asio::posix::stream_descriptor waiting_;  // the stream's; never closes it
  boost::asio::steady_timer patience_;
  const PeerCredentials peer_;
  Closed on_closed_;
  FrameReader reader_;
  std::shared_ptr<ServerConnection> connection_;
};

}  // namespace datacloud
