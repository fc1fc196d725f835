// One peer on its way in through the TLS gate, or out again.
//
// Threads: made on the loop's thread; moves on the server's thread that it was given to.
#pragma once

#include <memory>
#include <string>

#include "common/net/accept.h"
#include "common/net/handshake_places.h"
#include "common/rpc/rpc_threads.h"
#include "common/rpc/tls_gate.h"

namespace datacloud {

class TlsHandshake : public std::enable_shared_from_this<TlsHandshake> {
 public:
  TlsHandshake(TlsGate&, RpcThread&, const AcceptedPeer&, std::shared_ptr<const TlsContext>);
  ~TlsHandshake();

  void start(std::unique_ptr<HandshakePlaces::Place>);
  // Its place was given to another. From any thread.
  void evict();
  // The peer is told why, and its connection ended. From any thread, after the gate was asked.
  void turn_away(Refusal, const Error& why);
  // What the gate takes over, on the loop's thread, while it judges.
  std::unique_ptr<ByteStream>& stream() { return stream_; }
  RpcThread& thread() const { return thread_.thread(); }
  const std::string& address() const { return address_; }
  // When no thread runs any more.
  void stop();

 private:
  void step();
  void end();
  void expect_within(Duration patience, void (*otherwise)(TlsHandshake&));
  void say(const Error& why);
  void drain();

  TlsGate& gate_;
  const RpcThreadUse thread_;
  std::unique_ptr<ByteStream> stream_;
  TlsStream* const tls_;                           // the same
  boost::asio::posix::stream_descriptor waiting_;  // never closes it
  boost::asio::steady_timer timer_;
  const std::string address_;
  std::unique_ptr<HandshakePlaces::Place> place_;  // while the handshake lasts
  size_t drained_ = 0;
};

}  // namespace datacloud
