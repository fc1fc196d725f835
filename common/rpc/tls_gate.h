// Where peers over TLS come in: accepts, handshakes, judges certificates. Not one byte of the RPC
// is read from a peer before it is admitted.
//
// Bounds: handshakes at once, in all and of one address; time of each. A peer that is turned away
// is told why in a frame, through the TLS connection, and what it sends is thrown away.
// On the service thread.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/net/address.h"
#include "common/rpc/rpc_loop.h"

namespace datacloud {

inline constexpr size_t kHandshakesMax = 256;
inline constexpr size_t kHandshakesOfOneAddressMax = 32;

class TlsHandshake;

class TlsGate {
 public:
  // Takes over an admitted peer; its failure (too_many) is told to the peer.
  using Admitted = std::function<result<void>(std::unique_ptr<ByteStream>&, PeerCredentials)>;

  TlsGate(RpcLoop&, TlsServing, Admitted);
  ~TlsGate();
  // All addresses of the host. Resolves names: blocks.
  result<void> listen(const TlsAddress&);
  PeerRefusals& refusals() { return *serving_.refusals; }

 private:
  friend class TlsHandshake;
  struct Listener;
  void wait(Listener&);
  void accept(Listener&);
  void start(int fd, const std::string& host, const std::string& port);
  void ended(const std::shared_ptr<TlsHandshake>&);
  void note(Refusal, const std::string& address, const std::string& why);

  RpcLoop& loop_;
  const TlsServing serving_;
  const Admitted admitted_;
  std::set<std::shared_ptr<TlsHandshake>> handshakes_;
  std::map<std::string, size_t> by_host_;
  std::vector<std::unique_ptr<Listener>> listeners_;
};

// The socket options of both sides: no waiting for more to send, and a peer that is gone without a
// word is noticed within half a minute.
void set_tcp_options(int fd);

}  // namespace datacloud
