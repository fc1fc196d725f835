// Where peers over TLS come in: accepts, handshakes, judges certificates. Not one byte of the RPC
// is read from a peer before it is admitted.
//
// Bounds: handshakes at once, in all and of one address (handshake_places.h says who has to go);
// time of each. A peer whose certificate does not count is told why in a frame, through the TLS
// connection, and what it sends is thrown away; one for whose handshake there is no place is told
// by a TLS alert.
//
// Threads: the loop's accepts and judges; handshakes run on the server's threads.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/net/accept.h"
#include "common/net/address.h"
#include "common/net/handshake_places.h"
#include "common/rpc/rpc_loop.h"
#include "common/rpc/rpc_threads.h"

namespace datacloud {

inline constexpr size_t kHandshakesMax = 256;
inline constexpr size_t kHandshakesOfOneAddressMax = 32;

class TlsHandshake;

class TlsGate {
 public:
  // Takes over an admitted peer, which stays on the thread of its handshake; its failure (too_many)
  // is told to the peer.
  using Admitted =
      std::function<result<void>(std::unique_ptr<ByteStream>&, RpcThread&, PeerCredentials)>;

  TlsGate(RpcLoop&, RpcThreads&, TlsServing, Admitted);
  // No thread runs any more.
  ~TlsGate();
  // All addresses of the host. Resolves names: blocks.
  result<void> listen(const TlsAddress&);
  // From any thread.
  size_t handshakes() const { return places_->count(); }
  uint64_t evictions() const { return places_->evictions(); }

 private:
  friend class TlsHandshake;
  struct Listener;
  void wait(Listener&);
  void accept(Listener&);
  void start(const AcceptedPeer&);
  void judge(const std::shared_ptr<TlsHandshake>&, const PeerCertificate&);
  void ended(const std::shared_ptr<TlsHandshake>&);
  void note(Refusal, const std::string& address, const std::string& why);  // from any thread

  RpcLoop& loop_;
  RpcThreads& threads_;
  const TlsServing serving_;
  const Admitted admitted_;
  const std::shared_ptr<HandshakePlaces> places_;
  std::map<const TlsHandshake*, std::shared_ptr<TlsHandshake>> handshakes_;
  std::vector<std::unique_ptr<Listener>> listeners_;
};

}  // namespace datacloud
