// The RPC server: Boost.Asio on one thread, Unix sockets, peer credentials.
//
// Everything a service sees happens on the thread of run(): requests, disconnects, timers, posted
// functions. Nothing a peer sends closes any connection but its own; log lines a peer can cause
// are limited in rate.
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <set>
#include <thread>

#include "common/base/asio.h"
#include "common/base/log.h"
#include "common/rpc/rpc.h"
#include "common/rpc/rpc_connection.h"
#include "common/rpc/rpc_frame.h"

namespace datacloud {
namespace {

namespace asio = boost::asio;
using Socket = asio::local::stream_protocol::socket;
using boost::system::error_code;

constexpr size_t kConnectionsMax = 4096;
constexpr auto kAcceptRetry = milliseconds(100);

// At most ten lines a second of what peers can cause.
class PeerLog {
 public:
  bool allow() {
    const auto now = monotonic_now();
    if (now - window_start_ > seconds(1)) {
      window_start_ = now;
      lines_ = 0;
    }
    return ++lines_ <= 10;
  }

 private:
  MonotonicTime window_start_{};
  int lines_ = 0;
};

// What the reading half needs of the server. Used on the service thread only, besides thread().
struct Loop {
  explicit Loop(RpcService& s) : service(s) {}
  RpcService& service;
  PeerLog peer_log;
  std::atomic<std::thread::id> thread{};
  asio::io_context io{1};
};

// The reading half of a connection: owns the socket, lives in Asio's handlers.
class Link : public std::enable_shared_from_this<Link> {
 public:
  using Closed = std::function<void(const std::shared_ptr<Link>&)>;

  Link(Loop& loop, Socket socket, PeerCredentials peer, Closed on_closed)
      : loop_(loop), socket_(std::move(socket)), peer_(peer), on_closed_(std::move(on_closed)) {}
  ~Link() {
    if (connection_) connection_->detach();
  }

  void start() {
    ServerConnection::Hooks hooks;
    hooks.on_service_thread = [loop = &loop_] {
      return loop->thread.load(std::memory_order_relaxed) == std::this_thread::get_id();
    };
    std::weak_ptr<Link> weak = weak_from_this();
    hooks.flush_soon = [this, weak] { post_to(weak, [](Link& l) { l.connection_->flush(); }); };
    hooks.flush_writable = [this, weak] { post_to(weak, [](Link& l) { l.wait_writable(); }); };
    hooks.close_soon = [this, weak] { post_to(weak, [](Link& l) { l.close(); }); };
    connection_ =
        std::make_shared<ServerConnection>(socket_.native_handle(), peer_, std::move(hooks));
    read();
  }

  void close() {
    if (!socket_.is_open()) return;
    connection_->detach();
    error_code ignored;
    socket_.close(ignored);
    auto self = shared_from_this();
    on_closed_(self);
    loop_.service.on_disconnect(connection_);
  }

 private:
  // Called with the connection's lock held, which keeps the link alive (detach() takes that lock).
  void post_to(std::weak_ptr<Link> weak, void (*action)(Link&)) {
    asio::post(loop_.io, [weak = std::move(weak), action] {
      if (auto self = weak.lock(); self && self->socket_.is_open()) action(*self);
    });
  }

  void wait_writable() {
    socket_.async_wait(Socket::wait_write, [self = shared_from_this()](error_code ec) {
      if (!ec) self->connection_->flush();
    });
  }

  void read() {
    const MutableByteView space = reader_.space();
    socket_.async_read_some(asio::buffer(space.data(), space.size()),
                            [self = shared_from_this()](error_code ec, size_t bytes) {
                              if (ec) return self->close();
                              self->reader_.filled(bytes);
                              if (self->handle_frames()) self->read();
                            });
  }

  // False when the connection is closed.
  bool handle_frames() {
    for (;;) {
      if (connection_->closing()) {
        close();
        return false;
      }
      pb::Frame frame;
      auto more = reader_.next(frame);
      if (!more) return refuse(more.error().text());
      if (!more.value()) return true;
      if (!frame.has_request()) return refuse("a frame that is not a request");
      handle(std::move(*frame.mutable_request()));
    }
  }

  void handle(pb::Request request) {
    pb::Reply reply;
    reply.set_id(request.id());
    if (request.op_case() == pb::Request::OP_NOT_SET) {
      set_error(reply, Error(Errc::unsupported, "the daemon does not know this request"));
    } else if (!connection_->admit()) {
      set_error(reply, Error(Errc::unavailable, "too many unanswered requests on one connection"));
    } else {
      loop_.service.on_request(connection_, std::move(request));
      return;
    }
    connection_->reply(reply);
  }

  bool refuse(const std::string& reason) {
    if (loop_.peer_log.allow()) {
      spdlog::warn("RPC: process {} (uid {}) sent {}: connection closed", peer_.pid, peer_.uid,
                   reason);
    }
    close();
    return false;
  }

  Loop& loop_;
  Socket socket_;
  const PeerCredentials peer_;
  Closed on_closed_;
  FrameReader reader_;
  std::shared_ptr<ServerConnection> connection_;
};

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
  explicit AsioRpcServer(RpcService& service) : loop_(service) {}

  ~AsioRpcServer() override {
    for (auto& listener : listeners_) {
      struct stat st {};
      if (::lstat(listener->path.c_str(), &st) == 0 && st.st_ino == listener->identity.st_ino &&
          st.st_dev == listener->identity.st_dev) {
        ::unlink(listener->path.c_str());
      }
    }
  }

  result<void> listen(const std::string& address) override;

  void run() override {
    loop_.thread = std::this_thread::get_id();
    auto work = asio::make_work_guard(loop_.io);
    loop_.io.run();
    loop_.thread = std::thread::id();
  }
  void stop() override { loop_.io.stop(); }
  void post(std::function<void()> f) override { asio::post(loop_.io, std::move(f)); }
  void after(Duration delay, std::function<void()> f) override {
    auto timer = std::make_shared<asio::steady_timer>(loop_.io, delay);
    timer->async_wait([timer, f = std::move(f)](error_code ec) {
      if (!ec) f();
    });
  }

 private:
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
    auto link = std::make_shared<Link>(loop_, std::move(socket),
                                       PeerCredentials{cred.pid, cred.uid, cred.gid},
                                       [this](const auto& closed) { links_.erase(closed); });
    links_.insert(link);
    link->start();
  }

  // A reply with id 0 concerns the connection; the socket is closed on return.
  void turn_away(Socket& socket, int errno_value, const std::string& text) {
    if (loop_.peer_log.allow()) spdlog::warn("RPC: connection refused: {}", text);
    pb::Frame frame;
    set_error(*frame.mutable_reply(), Error::posix(errno_value, text));
    FrameWriter writer;
    if (auto encoded = encode_frame(frame)) writer.push(std::move(encoded).value());
    writer.write_to(socket.native_handle());
  }

  Loop loop_;
  std::set<std::shared_ptr<Link>> links_;  // destroyed before loop_, which their sockets use
  std::vector<std::unique_ptr<Listener>> listeners_;
};

result<void> AsioRpcServer::listen(const std::string& address) {
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

std::unique_ptr<RpcServer> make_rpc_server(RpcService& service) {
  return std::make_unique<AsioRpcServer>(service);
}

}  // namespace datacloud
