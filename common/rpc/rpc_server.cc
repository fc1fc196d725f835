// The RPC server: Unix sockets with peer credentials, and TLS (tls_gate.h).
//
// What a service sees, requests, disconnects, timers and posted functions, happens one at a time
// (rpc_loop.h). Bytes are moved by threads of the connections (rpc_threads.h, rpc_link.h), and
// requests come from them in turn (rpc_turns.h). Nothing a peer sends closes any connection but its
// own; log lines a peer can cause are limited in rate.
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <mutex>
#include <set>
#include <thread>

#include "common/base/asio.h"
#include "common/base/log.h"
#include "common/rpc/rpc.h"
#include "common/rpc/rpc_frame.h"
#include "common/rpc/rpc_link.h"
#include "common/rpc/rpc_loop.h"
#include "common/rpc/rpc_threads.h"
#include "common/rpc/rpc_turns.h"
#include "common/rpc/tls_gate.h"

namespace datacloud {
namespace {

namespace asio = boost::asio;
using Socket = asio::local::stream_protocol::socket;
using boost::system::error_code;

constexpr size_t kConnectionsMax = 4096;
constexpr size_t kConnectionsOfOneNodeMax = 64;
constexpr Duration kHelloPatience = seconds(10);  // of an admitted peer, to get a session
constexpr auto kAcceptRetry = milliseconds(100);

// One bound address.
struct Listener {
  explicit Listener(asio::io_context& io) : acceptor(io), retry(io) {}
  asio::local::stream_protocol::acceptor acceptor;
  asio::steady_timer retry;
  std::string path;
  struct stat identity {};
};

// True: somebody answers at the path.
bool is_live(const std::string& path) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return true;  // cannot tell: do not take the path away from anybody
  sockaddr_un address;
  fill_unix_address(path, address);
  const int rc = ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address));
  const bool dead = rc != 0 && (errno == ECONNREFUSED || errno == ENOENT);
  ::close(fd);
  return !dead;
}

// Makes the path free for bind, or says why it is not.
result<void> clear_stale_socket(const std::string& path) {
  struct stat st {};
  if (::lstat(path.c_str(), &st) != 0) {
    if (errno == ENOENT) return success();
    return failure(Error::posix(errno, "cannot look at the socket path " + path));
  }
  if (!S_ISSOCK(st.st_mode)) {
    return failure(Errc::exists,
                   path + " exists and is not a socket; remove it or listen elsewhere");
  }
  if (is_live(path)) {
    return failure(Errc::exists, "another daemon listens on " + path + "; stop it first");
  }
  if (::unlink(path.c_str()) != 0) {
    return failure(Error::posix(errno, "cannot remove the stale socket " + path));
  }
  return success();
}

class AsioRpcServer final : public RpcServer {
 public:
  AsioRpcServer(RpcService& service, size_t threads, Duration stall_max)
      : threads_(threads), loop_(stall_max), turns_(service, [this] { serve_soon(); }) {}

  ~AsioRpcServer() override {
    threads_.stop();
    for (const auto& link : links_) link->abandon();
    for (auto& listener : listeners_) {
      struct stat st {};
      if (::lstat(listener->path.c_str(), &st) == 0 && st.st_ino == listener->identity.st_ino &&
          st.st_dev == listener->identity.st_dev) {
        ::unlink(listener->path.c_str());
      }
    }
  }

  result<void> listen(const std::string& address) override;
  void serve_tls(TlsServing serving) override {
    loop_.refusals = serving.refusals;
    gate_ = std::make_unique<TlsGate>(loop_, threads_, std::move(serving),
                                      [this](std::unique_ptr<ByteStream>& stream, RpcThread& thread,
                                             PeerCredentials peer) -> result<void> {
                                        return admit_node(stream, thread, std::move(peer));
                                      });
  }

  void run() override {
    threads_.start();
    serving_ = true;
    auto work = asio::make_work_guard(loop_.io);
    loop_.io.run();
    threads_.stop();
    std::lock_guard lock(loop_.service);  // whoever serves on another thread has ended
    serving_ = false;
  }
  void stop() override { loop_.io.stop(); }
  void post(std::function<void()> f) override { loop_.post(std::move(f)); }
  void run_or_post(std::function<void()> f) override {
    if (loop_.posted == 0) {
      std::unique_lock lock(loop_.service, std::try_to_lock);
      if (lock && serving_) return f();
    }
    loop_.post(std::move(f));
  }
  void after(Duration delay, std::function<void()> f) override {
    auto timer = std::make_shared<asio::steady_timer>(loop_.io, delay);
    timer->async_wait([this, timer, f = std::move(f)](error_code ec) {
      if (!ec) loop_.with_service(f);
    });
  }
  RpcServerStats stats() const override {
    RpcServerStats stats;
    turns_.add_to(stats);
    stats.threads = threads_.count();
    stats.connections = connections_;
    if (gate_) {
      stats.handshakes = gate_->handshakes();
      stats.handshakes_evicted = gate_->evictions();
    }
    return stats;
  }

 private:
  void serve_soon() {
    if (RpcThreads::inside() && loop_.posted == 0) {
      std::unique_lock lock(loop_.service, std::try_to_lock);
      if (lock && !turns_.serve(kTurnSliceInside)) return;
    }
    serve_on_loop();
  }
  void serve_on_loop() {
    asio::post(loop_.io, [this] {
      std::unique_lock lock(loop_.service);
      const bool more = turns_.serve();
      lock.unlock();
      if (more) serve_on_loop();
    });
  }

  void accept(Listener& listener) {
    listener.acceptor.async_accept([this, &listener](error_code ec, Socket socket) {
      if (ec == asio::error::operation_aborted) return;
      if (!ec) {
        admit(std::move(socket));
        return accept(listener);
      }
      if (loop_.peer_log.allow()) {
        spdlog::warn("RPC: cannot accept on {}: {}", listener.path, ec.message());
      }
      listener.retry.expires_after(kAcceptRetry);
      listener.retry.async_wait([this, &listener](error_code stopped) {
        if (!stopped) accept(listener);
      });
    });
  }

  void admit(Socket socket) {
    ucred cred{};
    socklen_t length = sizeof(cred);
    if (::getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &cred, &length) != 0) return;
    error_code ignored;
    socket.non_blocking(true, ignored);
    if (cred.uid != 0 && cred.uid != ::geteuid()) {
      return turn_away(socket, EACCES,
                       fmt::format("user {} may not talk to this daemon: only root and user {} may",
                                   cred.uid, ::geteuid()));
    }
    if (links_.size() >= kConnectionsMax) {
      return turn_away(socket, EAGAIN,
                       fmt::format("the daemon has {} connections already", links_.size()));
    }
    (void)add_link(make_socket_stream(socket.release()), threads_.least_used(),
                   {cred.pid, cred.uid, cred.gid});
  }

  std::shared_ptr<RpcLink> add_link(std::unique_ptr<ByteStream> stream, RpcThread& thread,
                                    PeerCredentials peer) {
    auto link = std::make_shared<RpcLink>(loop_, turns_, thread, std::move(stream), std::move(peer),
                                          [this](const auto& closed) {
                                            links_.erase(closed);
                                            connections_ = links_.size();
                                          });
    links_.insert(link);
    connections_ = links_.size();
    link->start();
    return link;
  }

  result<void> admit_node(std::unique_ptr<ByteStream>& stream, RpcThread& thread,
                          PeerCredentials peer) {
    const auto of_node = std::count_if(links_.begin(), links_.end(), [&](const auto& link) {
      return link->peer().remote() && link->peer().node == peer.node;
    });
    if (links_.size() >= kConnectionsMax) {
      return failure(Error::posix(
          EAGAIN, fmt::format("the daemon has {} connections already", links_.size())));
    }
    if (static_cast<size_t>(of_node) >= kConnectionsOfOneNodeMax) {
      return failure(Error::posix(
          EAGAIN, fmt::format("{} has {} connections already", peer.describe(), of_node)));
    }
    const auto link = add_link(std::move(stream), thread, std::move(peer));
    // On the service's thread, which is who knows of sessions.
    after(kHelloPatience, [this, weak = std::weak_ptr(link->connection())] {
      const auto connection = weak.lock();
      if (!connection || connection->session != 0 || connection->closing()) return;
      loop_.refusals->count(Refusal::slow);
      if (loop_.peer_log.allow())
        spdlog::warn("RPC: {} turned away (slow): it has said no hello",
                     connection->peer().describe());
      connection->close();
    });
    return success();
  }

  // A reply with id 0 concerns the connection; the socket is closed on return.
  void turn_away(Socket& socket, int errno_value, const std::string& text) {
    if (loop_.peer_log.allow()) spdlog::warn("RPC: connection refused: {}", text);
    pb::Frame frame;
    set_error(*frame.mutable_reply(), Error::posix(errno_value, text));
    FrameWriter writer;
    if (auto encoded = encode_frame(frame)) writer.push(std::move(encoded).value());
    writer.write_to(*make_socket_stream(socket.release()));
  }

  RpcThreads threads_;
  RpcLoop loop_;
  RpcTurns turns_;
  std::set<std::shared_ptr<RpcLink>> links_;  // destroyed before what they use
  std::atomic<size_t> connections_{0};
  std::atomic<bool> serving_{false};  // run() runs
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::unique_ptr<TlsGate> gate_;
};

result<void> AsioRpcServer::listen(const std::string& address) {
  if (is_tls_address(address)) {
    TRY(const auto tls, parse_tls_address(address));
    if (!gate_) return failure(Errc::unsupported, address + ": there is no certificate to show");
    return gate_->listen(tls);
  }
  TRY(auto path, unix_socket_path(address));
  std::error_code ec;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ec);
  TRY(clear_stale_socket(path));
  auto listener = std::make_unique<Listener>(loop_.io);
  error_code error;
  listener->acceptor.open(asio::local::stream_protocol(), error);
  if (!error) listener->acceptor.bind(asio::local::stream_protocol::endpoint(path), error);
  if (!error) listener->acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) return failure(Error::posix(error.value(), "cannot listen on " + address));
  // Anybody may connect; who may speak is decided by credentials, with an answer that says so.
  if (::chmod(path.c_str(), 0666) != 0 || ::lstat(path.c_str(), &listener->identity) != 0) {
    return failure(Error::posix(errno, "cannot set the mode of the socket " + path));
  }
  listener->path = std::move(path);
  listeners_.push_back(std::move(listener));
  accept(*listeners_.back());
  return success();
}

}  // namespace

std::unique_ptr<RpcServer> make_rpc_server(RpcService& service, RpcServerOptions options) {
  size_t threads = options.threads;
  if (threads == 0)
    threads = std::clamp<size_t>(std::thread::hardware_concurrency(), 1, kRpcThreadsDefaultMax);
  return std::make_unique<AsioRpcServer>(service, threads, options.stall_max);
}

}  // namespace datacloud
