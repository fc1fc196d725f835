// Serves one site to the nodes of its cloud over TLS: the object store seam, from afar.
//
// A thread for each connection does its handshake, moves its bytes and nothing else; the store's
// threads do the work, so that nobody waits for a peer that is slow. Nothing a peer sends is parsed
// before its certificate has been judged: by the cloud's authority, in force, with a role that may
// use sites. A put is answered when the store says that it is durable. A node on this machine goes
// on by a local socket and shared memory, with what its certificate gave it (site_local.h).
//
// Bounds: SiteServerLimits. A connection that is over one of them is not read from until its
// answers are out; one that moves nothing for `stall_max` while it should is closed.
//
// Thread safety: all methods from any thread. Destruction closes the connections and waits for what
// the store was asked.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/net/address.h"
#include "common/proto/store.pb.h"
#include "common/rpc/peer_refusals.h"
#include "common/store/object_store.h"
#include "common/store/remote/certified_nodes.h"
#include "common/store/remote/nodes_in_force.h"
#include "common/store/remote/site_counters.h"
#include "common/tls/tls_stream.h"

namespace datacloud {

struct SiteServerLimits {
  size_t connections_max = 256;
  size_t handshakes_max = 64;  // of the connections; a quarter from one address
  size_t connections_of_node_max = 8;
  size_t stores_max = 4;  // that expect different markers
  // Requests that were taken and not answered, and their bytes, both ways.
  size_t requests_of_connection_max = 256;
  uint64_t bytes_of_connection_max = 64u << 20;  // or one request
  size_t requests_max = 8192;
  uint64_t bytes_max = 1u << 30;
  // Of memory shared with nodes on this machine: a connection's, and in all. 0: TLS for all.
  uint64_t window_bytes_max = 64u << 20;
  uint64_t windows_bytes_max = 1u << 30;
  Duration handshake_max = seconds(10);
  Duration stall_max = seconds(20);
};

// What answers the daemon's requests for the journal's log at the site. The protocol of the log is
// none of the server's business.
class SiteLogService {
 public:
  struct Answer {
    pb::StoreReply reply;
    Bytes data;  // the segment; empty: none
  };
  virtual ~SiteLogService() = default;
  // `marker`: what the site must be. The calls of a connection come in its order. Returns at once;
  // `done` runs once, on any thread, and must not block.
  virtual void run(const SiteMarker& marker, pb::StoreLog, Bytes data,
                   std::function<void(result<Answer>)> done) = 0;
};

struct SiteServerOptions {
  std::string cloud_uuid;
  std::string site;
  std::vector<std::string> listen;  // "tls://HOST:PORT"
  // What the server shows, with the role site and the site's name; asked at each connection.
  std::function<result<std::shared_ptr<const TlsContext>>()> context;
  // The site's store, which answers away while the marker there is not that one.
  std::function<result<std::unique_ptr<ObjectStore>>(const SiteMarker&)> open;
  // What is there (not_found: none), and how it is made.
  std::function<result<SiteMarker>()> marker;
  std::function<result<void>(const SiteMarker&)> format;
  std::shared_ptr<NodesInForce> nodes;        // null: every certificate counts until it ends
  std::shared_ptr<CertifiedNodes> certified;  // null: no certificate of an organisation counts
  // Outlives the server, and has answered what it was asked when it is destroyed. Null: the site
  // holds no journal.
  SiteLogService* log = nullptr;
  SiteServerLimits limits;
};

class SiteServer {
 public:
  // Listens, and serves from then on. Names are resolved: blocks.
  static result<std::unique_ptr<SiteServer>> start(SiteServerOptions);
  ~SiteServer();
  size_t connections() const;
  const PeerRefusals& refusals() const;
  // Requests being served, and the bytes held for them.
  size_t requests() const;
  uint64_t bytes() const;
  const SiteCounters& counters() const;

  class Impl;

 private:
  explicit SiteServer(std::unique_ptr<Impl>);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace datacloud
