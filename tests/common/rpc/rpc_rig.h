// A server of the RPC with a service that echoes, over a Unix socket or TLS, and peers of it.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "common/net/address.h"
#include "common/rpc/rpc_dial.h"
#include "common/rpc/rpc_session.h"
#include "tests/support/tls_rig.h"

namespace datacloud {

// Answers every request with its getxattr name; remembers what it saw.
class EchoService final : public RpcService {
 public:
  void on_request(std::shared_ptr<RpcConnection> connection, pb::Request request) override {
    const OneAtATime alone(*this);
    std::lock_guard lock(mutex_);
    pb::Reply reply;
    reply.set_id(request.id());
    if (request.getxattr().name() == "slow") std::this_thread::sleep_for(pause);
    if (request.has_hello()) {
      hellos_.push_back(request.hello());
      const uint64_t wanted = request.hello().session().id();
      auto* hello = reply.mutable_hello();
      hello->set_resumed(wanted != 0 && know_sessions);
      hello->set_session(hello->resumed() ? wanted : next_session++);
      hello->set_lease_ms(20'000);
      hello->set_protocol(protocol);
      if (turn_away) set_error(reply, Error::posix(EACCES, "node gpu07 was revoked"));
      if (shape_hello_) shape_hello_(reply);
      connection->session = hello->session();
      last_ = connection;
    } else {
      seen_.push_back(request.id());
      acknowledged_ = request.acknowledged();
      if (mute) return;
      if (request.has_getxattr()) reply.mutable_xattr()->set_value(request.getxattr().name());
      if (request.has_keepalive()) reply.mutable_keepalive()->set_lease_ms(60'000);
      if (request.has_keepalive() && shape_hello_) shape_hello_(reply);
      if (request.has_unlink()) set_error(reply, Error::posix(ENOENT, "no name \xff\xfe"));
      if (request.has_statfs()) set_error(reply, Error(Errc::revoked, "id 7 is revoked"));
      if (request.has_readdir()) {  // a large answer
        reply.mutable_xattr()->set_value(std::string(request.readdir().count_max(), 'x'));
      }
      for (uint64_t i = 0; request.has_sync() && i < pushes_per_sync; i++) {
        pb::Push push;
        push.mutable_recall()->set_id(i);
        connection->push(push);
      }
    }
    if (request.has_listxattr()) {
      return connection->reply_with([reply] {
        pb::Reply made = reply;
        made.mutable_xattr()->add_names("made");
        return made;
      });
    }
    connection->reply(reply);
  }
  void on_disconnect(std::shared_ptr<RpcConnection>) override {
    const OneAtATime alone(*this);
    disconnects++;
  }
  // What a server calls is never called twice at once.
  struct OneAtATime {
    explicit OneAtATime(EchoService& s) : service(s) {
      EXPECT_FALSE(service.called.exchange(true));
    }
    ~OneAtATime() { service.called = false; }
    EchoService& service;
  };
  std::atomic<bool> called{false};

  std::vector<uint64_t> seen() {
    std::lock_guard lock(mutex_);
    return seen_;
  }
  std::vector<pb::HelloRequest> hellos() {
    std::lock_guard lock(mutex_);
    return hellos_;
  }
  uint64_t acknowledged() {
    std::lock_guard lock(mutex_);
    return acknowledged_;
  }
  std::shared_ptr<RpcConnection> last() {
    std::lock_guard lock(mutex_);
    return last_;
  }

  // Has the last word on answers to hellos and keepalives.
  void shape_hello(std::function<void(pb::Reply&)> f) {
    std::lock_guard lock(mutex_);
    shape_hello_ = std::move(f);
  }

  Duration pause{};  // set before it is asked for "slow"
  std::atomic<bool> mute{false};
  std::atomic<bool> turn_away{false};
  std::atomic<uint32_t> protocol{0};
  std::atomic<bool> know_sessions{true};
  std::atomic<uint64_t> pushes_per_sync{0};
  std::atomic<int> disconnects{0};
  std::atomic<uint64_t> next_session{100};

 private:
  std::mutex mutex_;
  std::vector<uint64_t> seen_;
  std::vector<pb::HelloRequest> hellos_;
  uint64_t acknowledged_ = 0;
  std::shared_ptr<RpcConnection> last_;
  std::function<void(pb::Reply&)> shape_hello_;
};

// A server on its own thread, stopped on destruction.
class RunningServer {
 public:
  RunningServer(RpcService& service, const std::string& address, TlsServing tls = {},
                RpcServerOptions options = {})
      : server(make_rpc_server(service, options)) {
    if (tls.context) server->serve_tls(std::move(tls));
    auto listening = server->listen(address);
    EXPECT_TRUE(listening) << (listening ? "" : listening.error().message());
    thread_ = std::thread([this] { server->run(); });
  }
  ~RunningServer() {
    server->stop();
    thread_.join();
  }
  std::unique_ptr<RpcServer> server;

 private:
  std::thread thread_;
};

inline bool eventually(const std::function<bool()>& condition) {
  const auto end = monotonic_now() + seconds(10);
  while (!condition()) {
    if (monotonic_now() > end) return false;
    std::this_thread::sleep_for(milliseconds(2));
  }
  return true;
}

inline pb::Request echo(const std::string& text) {
  pb::Request request;
  request.mutable_getxattr()->set_name(text);
  return request;
}

// A peer that speaks bytes, not RPC; blocking.
class RawPeer {
 public:
  explicit RawPeer(std::unique_ptr<ByteStream> stream) : stream_(std::move(stream)) {}
  // False when the connection is gone.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const iovec part{const_cast<char*>(bytes.data()), bytes.size()};
      const auto sent = stream_->send({&part, 1});
      if (sent.state == ByteStream::State::broken) return false;
      bytes.remove_prefix(sent.bytes);
      if (sent.state == ByteStream::State::blocked && !wait(POLLOUT)) return false;
    }
    for (;;) {
      const auto flushed = stream_->flush();
      if (flushed != ByteStream::State::blocked) return flushed == ByteStream::State::done;
      if (!wait(POLLOUT)) return false;
    }
  }
  // 0: the connection is gone.
  size_t receive(MutableByteView space) {
    for (;;) {
      const auto got = stream_->receive(space);
      if (got.state != ByteStream::State::blocked) return got.bytes;
      if (!wait(POLLIN)) return 0;
    }
  }

 private:
  bool wait(short events) {
    pollfd waiting{stream_->fd(), events, 0};
    return ::poll(&waiting, 1, 10'000) > 0;
  }
  std::unique_ptr<ByteStream> stream_;
};

enum class Transport { unix_socket, tls };

class RpcRig {
 protected:
  explicit RpcRig(Transport transport) {
    char pattern[] = "/tmp/datacloud-rpc-XXXXXX";
    directory_ = ::mkdtemp(pattern);
    path_ = directory_ + "/socket";
    tls_ = transport == Transport::tls;
    address_ = tls_ ? "tls://127.0.0.1:" + std::to_string(free_port()) : "unix:" + path_;
    start();
  }
  ~RpcRig() {
    server_.reset();
    std::filesystem::remove_all(directory_);
  }
  void restart(RpcServerOptions options) {
    server_.reset();
    start(options);
  }
  void start(RpcServerOptions options = {}) {
    TlsServing tls;
    tls.context = [this] { return daemon_; };
    tls.admit = [](const PeerCertificate& shown, PeerCredentials& peer, Refusal&) -> result<void> {
      peer.node = shown.identity.name;
      if (shown.verdict == PeerCertificate::Verdict::good) return success();
      return failure(Error::posix(EACCES, shown.problem));
    };
    tls.refusals = refusals_;
    server_ = std::make_unique<RunningServer>(service_, address_, std::move(tls), options);
  }
  void reach(RpcClient::Options& options) {
    options.addresses = {address_};
    options.tls = [this]() -> result<std::shared_ptr<const TlsContext>> { return node_; };
  }

  std::unique_ptr<RpcClient> client(RpcClient::Options options = mount_options()) {
    reach(options);
    auto connected = connect_rpc(std::move(options), nullptr);
    EXPECT_TRUE(connected) << (connected ? "" : connected.error().message());
    return connected ? std::move(connected).value() : nullptr;
  }
  static RpcClient::Options mount_options() {
    RpcClient::Options options;
    options.kind = pb::CLIENT_MOUNT;
    options.deadline = seconds(10);
    return options;
  }
  RawPeer raw_connection() {
    if (tls_) {
      auto stream = Dial({address_}, node_).wait();
      EXPECT_TRUE(stream) << (stream ? "" : stream.error().message());
      return RawPeer(std::move(stream).value());
    }
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address;
    fill_unix_address(path_, address);
    EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    return RawPeer(make_socket_stream(fd));
  }

  bool tls_ = false;
  TestCloud cloud_;
  std::shared_ptr<const TlsContext> daemon_ = cloud_.daemon(), node_ = cloud_.node("gpu07");
  std::string directory_, path_, address_;
  const std::shared_ptr<PeerRefusals> refusals_ = std::make_shared<PeerRefusals>();
  EchoService service_;
  std::unique_ptr<RunningServer> server_;
};

// A suite whose tests run over both: class X : public RpcOverBoth.
class RpcOverBoth : public RpcRig, public ::testing::TestWithParam<Transport> {
 protected:
  RpcOverBoth() : RpcRig(GetParam()) {}
};
class RpcOverUnix : public RpcRig, public ::testing::Test {
 protected:
  RpcOverUnix() : RpcRig(Transport::unix_socket) {}
};

inline std::string transport_name(const ::testing::TestParamInfo<Transport>& info) {
  return info.param == Transport::tls ? "Tls" : "UnixSocket";
}

inline std::string value_of(const result<pb::Reply>& reply) {
  return reply ? reply.value().xattr().value() : reply.error().message();
}

}  // namespace datacloud
