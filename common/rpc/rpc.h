// RPC between mounts, the tool and the daemon: protobuf frames over a Unix socket or TLS.
//
// Frame: magic u32 LE 0x31434444 ("DDC1"), length u32 LE (at most kFrameBytesMax), then a
// pb::Frame. A frame that does not parse closes the connection; nothing a peer sends can make the
// receiver allocate more than kFrameBytesMax per connection before it is checked.
//
// Request id 0 belongs to the connection, not to a session: hello uses it, and a reply with id 0
// that carries an error and answers nothing says why the server is about to close (EACCES).
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/proto/rpc.pb.h"
#include "common/rpc/peer_refusals.h"
#include "common/tls/tls_stream.h"

namespace datacloud {

class KnownAddresses;

inline constexpr uint32_t kFrameBytesMax = 16u << 20;
inline constexpr uint32_t kFrameMagic = 0x31434444;

// Who is at the other end: a process of this machine, a node, or a machine that may become one.
struct PeerCredentials {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  // Over TLS, instead:
  std::string address;  // "10.0.0.7:53412"; empty: a process of this machine
  std::string node;     // by its certificate; empty: an invitation
  NodeRoles roles;
  Bytes serial;  // of the certificate
  int64_t certificate_end_ns = 0;
  Bytes invitation;  // hash of the key that it was admitted by

  bool remote() const { return !address.empty(); }
  std::string describe() const;  // "process PID (uid UID)" or "node NAME at ADDRESS"
};

// Fills error fields of a reply; and back (error 0 gives success).
void set_error(pb::Reply&, const Error&);
result<void> reply_error(const pb::Reply&);

// --- Server ---------------------------------------------------------------------------------

// One connection, as the service sees it. Thread safety: send and push from any thread.
class RpcConnection {
 public:
  virtual ~RpcConnection() = default;
  virtual const PeerCredentials& peer() const = 0;
  // Queues a frame; dropped when the connection is closed. A peer that does not read closes its
  // connection once 64 MiB are queued.
  virtual void reply(pb::Reply) = 0;
  // Queues the reply that `make` will make, on the connection's thread: it has its place among
  // replies and pushes now, and they leave in that order. `make` runs once, or never if the
  // connection ends; it is destroyed before the server is.
  virtual void reply_with(std::function<pb::Reply()> make) = 0;
  virtual void push(const pb::Push&) = 0;
  virtual void close() = 0;
  // For the service's use: the session bound to this connection (0: none).
  uint64_t session = 0;
};

// What a server calls, for one thing at a time: the thread may be another each time.
class RpcService {
 public:
  virtual ~RpcService() = default;
  virtual void on_request(std::shared_ptr<RpcConnection>, pb::Request) = 0;
  virtual void on_disconnect(std::shared_ptr<RpcConnection>) = 0;
};

// What the server asks about peers over TLS; as the service is called.
struct TlsServing {
  // What the daemon shows; asked at each connection, so that a renewed certificate is used.
  std::function<std::shared_ptr<const TlsContext>()> context;
  // Who the peer is: fills node and roles, or invitation. A failure is told to the peer, logged and
  // counted under `reason`.
  std::function<result<void>(const PeerCertificate&, PeerCredentials&, Refusal& reason)> admit;
  std::shared_ptr<PeerRefusals> refusals;
  Duration handshake_patience = seconds(10);
};

struct RpcServerOptions {
  // Threads that move bytes: handshakes, decryption and parsing of requests, encoding and
  // encryption of replies. 0: as many as processors, at most kRpcThreadsDefaultMax.
  size_t threads = 0;
  // A peer that has sent a part of a request and sends less than kStallBytesMin of the rest in this
  // time is let go, and so is one that takes none of its replies.
  Duration stall_max = seconds(20);
};
inline constexpr uint64_t kStallBytesMin = 16u << 10;
inline constexpr size_t kRpcThreadsDefaultMax = 8;

// What the server is doing now, and what it has done since its start.
struct RpcServerStats {
  size_t threads = 0;
  size_t connections = 0;
  size_t handshakes = 0;        // under way
  size_t requests_waiting = 0;  // for their turn, and their bytes
  uint64_t bytes_waiting = 0;
  size_t connections_paused = 0;  // not read from: too much of theirs is waiting
  uint64_t requests_served = 0;
  Duration waited{};  // by all requests served, for their turn
  Duration served{};  // by the service, for them
  uint64_t handshakes_evicted = 0;
};

// Listens. Requests, disconnects, posted functions and timers never run concurrently: the latter
// two on the thread of run(), requests there or on a thread of the server's own. Those move the
// bytes (rpc_threads.h), each connection's by one. Requests of different nodes and local processes
// are served in turn, those of one connection in the order of their arrival (rpc_turns.h).
class RpcServer {
 public:
  virtual ~RpcServer() = default;
  // "unix:/path": replaces a stale socket file, refuses a live one; mode 0666 with peer
  // credentials checked against `allow` (root and the daemon's own uid may always connect).
  // "tls://HOST:PORT": all addresses of a name; needs serve_tls first.
  virtual result<void> listen(const std::string& address) = 0;
  virtual void serve_tls(TlsServing) = 0;
  virtual void run() = 0;                        // until stop()
  virtual void stop() = 0;                       // from any thread
  virtual void post(std::function<void()>) = 0;  // from any thread
  // As post(), from a thread that does not call the service now: while nothing waits for the
  // service, `f` runs at once and on this thread, as requests do. Not after run() has ended.
  virtual void run_or_post(std::function<void()> f) { post(std::move(f)); }
  virtual void after(Duration, std::function<void()>) = 0;  // one shot, from any thread
  virtual RpcServerStats stats() const = 0;                 // from any thread
};
std::unique_ptr<RpcServer> make_rpc_server(RpcService&, RpcServerOptions = {});

// --- Client ---------------------------------------------------------------------------------

// A session-aware connection to the daemon. It reconnects by itself; requests in flight when the
// connection breaks are sent again under their ids, in order, after the session is resumed. When
// the session is lost, those fail with session_lost that may have been executed and must not be
// again.
class RpcClient {
 public:
  struct Options {
    // Unix sockets are tried in order, then all others at once, a quarter of a second apart. A
    // daemon that does not lead, or says nothing, is passed over until all others were tried.
    std::vector<std::string> addresses;
    // What is known beside `addresses`, which it includes; null: what daemons tell, while this
    // client lives.
    std::shared_ptr<KnownAddresses> known = {};
    // What we show over TLS, and whom we trust; asked at each connection. Empty: tls:// addresses
    // cannot be used.
    std::function<result<std::shared_ptr<const TlsContext>>()> tls;
    pb::ClientKind kind = pb::CLIENT_TOOL;
    pb::Session session;              // who we are; id 0
    Duration deadline = seconds(30);  // of each call, reconnects included
    // How long this machine has been suspended so far (clock.h); a test's own.
    std::function<Duration()> suspended = time_suspended;
    // On a push; runs on the client's I/O thread and must not block.
    std::function<void(const pb::Push&)> on_push;
    // Leases to present when resuming (called on the I/O thread, must not block or call back).
    std::function<void(pb::HelloRequest&)> on_resume;
    // After every hello: first connect, resume, session lost. Runs on the I/O thread before
    // anything else is sent (and before the requests of a lost session fail); must not block.
    std::function<void(const pb::HelloReply&)> on_session;
  };

  virtual ~RpcClient() = default;
  // Sends `request` (id is set here). Callback on the I/O thread, must not block; unavailable when
  // the deadline passes without an answer. Errors in the reply are returned as errors.
  virtual void call(pb::Request request, std::function<void(result<pb::Reply>)>) = 0;
  // The blocking form; never from the I/O thread.
  result<pb::Reply> call(pb::Request request);
  virtual uint64_t session() const = 0;
  virtual bool connected() const = 0;
  // When the current session lease ends unless renewed: counted from the sending of the last
  // answered hello or keepalive; earlier by what the machine has been suspended since.
  virtual MonotonicTime lease_end() const = 0;
};

// Connects and says hello (waits at most options.deadline).
result<std::unique_ptr<RpcClient>> connect_rpc(RpcClient::Options, pb::HelloReply* hello);

}  // namespace datacloud
