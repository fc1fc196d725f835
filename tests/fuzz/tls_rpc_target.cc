// The daemon's TLS port with what peers may send there: bytes instead of TLS, and, with a valid
// certificate, bytes instead of requests. The real server, with its threads.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>
#include <thread>

#include "common/base/log.h"
#include "common/net/address.h"
#include "common/rpc/rpc.h"
#include "common/rpc/rpc_frame.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/tls_rig.h"

namespace datacloud::fuzz {
namespace {

constexpr uint64_t kLastId = 0x7fff'0001;
constexpr int kPatienceMs = 20'000;

class Server final : public RpcService {
 public:
  Server() : address_{"127.0.0.1", free_port()}, server_(make_rpc_server(*this, {.threads = 2})) {
    TlsServing tls;
    tls.context = [shown = cloud_.daemon()] { return shown; };
    tls.admit = [](const PeerCertificate& shown, PeerCredentials& peer, Refusal&) -> result<void> {
      peer.node = shown.identity.name;
      if (shown.verdict == PeerCertificate::Verdict::good) return success();
      return failure(Error::posix(EACCES, shown.problem));
    };
    tls.refusals = std::make_shared<PeerRefusals>();
    server_->serve_tls(std::move(tls));
    require(server_->listen(to_text(address_)).has_value(), "the server listens");
    thread_ = std::thread([this] { server_->run(); });
  }
  ~Server() {
    server_->stop();
    thread_.join();
  }
  void on_request(std::shared_ptr<RpcConnection> connection, pb::Request request) override {
    require(connection->peer().node == "gpu07",
            "nothing is parsed before the certificate is accepted");
    pb::Reply reply;
    reply.set_id(request.id());
    connection->reply(std::move(reply));
  }
  void on_disconnect(std::shared_ptr<RpcConnection>) override {}

  int connect() const {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(address_.port);
    require(::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0, "it accepts");
    return fd;
  }
  const std::shared_ptr<const TlsContext>& node() const { return node_; }

 private:
  const TestCloud cloud_;
  const std::shared_ptr<const TlsContext> node_ = cloud_.node("gpu07");
  const TlsAddress address_;
  const std::unique_ptr<RpcServer> server_;
  std::thread thread_;
};

void wait(int fd, bool room) {
  pollfd waiting{fd, static_cast<short>(room ? POLLIN | POLLOUT : POLLIN), 0};
  require(::poll(&waiting, 1, kPatienceMs) > 0, "the server answers or closes");
}

// Not one of these bytes is taken for a request; the connection is closed.
void send_raw(const Server& server, ByteView bytes) {
  const int fd = server.connect();
  (void)::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  ::shutdown(fd, SHUT_WR);
  for (uint8_t answer[4096];;) {
    wait(fd, false);
    if (::recv(fd, answer, sizeof answer, 0) <= 0) break;
  }
  ::close(fd);
}

std::unique_ptr<TlsStream> admitted(const Server& server) {
  const int fd = server.connect();
  (void)::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  auto stream = std::make_unique<TlsStream>(fd, server.node());
  for (;;) {
    const auto done = stream->handshake();
    require(done.has_value(), "a valid certificate is accepted");
    if (done.value()) return stream;
    wait(fd, stream->handshake_waits_for_room());
  }
}

// The bytes, and a good request behind them: it is answered, or the connection closed.
void send_within_tls(const Server& server, ByteView bytes) {
  const auto stream = admitted(server);
  pb::Frame last;
  last.mutable_request()->set_id(kLastId);
  last.mutable_request()->mutable_statfs();
  Bytes all = to_bytes(bytes);
  const auto frame = encode_frame(last).value();
  all.insert(all.end(), frame->begin(), frame->end());
  FrameReader reader;
  pb::Frame reply;
  for (ByteView left = all;;) {
    if (!left.empty()) {
      const iovec part{const_cast<uint8_t*>(left.data()), left.size()};
      left = left.subspan(stream->send({&part, 1}).bytes);
    }
    const bool held = stream->flush() == ByteStream::State::blocked;
    const auto got = stream->receive(reader.space());
    if (got.state == ByteStream::State::broken) return;
    if (got.state == ByteStream::State::done) {
      reader.filled(got.bytes);
      for (;;) {
        const auto next = reader.next(reply);
        require(next.has_value(), "the server sends frames");
        if (!next.value()) break;
        if (reply.reply().id() == kLastId) return;
      }
      continue;
    }
    // What the bytes announce may be a frame that does not come: then nobody answers.
    if (left.empty() && !held) {
      pollfd waiting{stream->fd(), POLLIN, 0};
      if (::poll(&waiting, 1, 20) <= 0) return;
    } else {
      wait(stream->fd(), true);
    }
  }
}

void run(ByteView input) {
  silence_protobuf();
  static const bool quiet = [] {
    spdlog::set_level(spdlog::level::off);
    return true;
  }();
  (void)quiet;
  static Server server;
  if (input.empty()) return;
  if (input[0] == 0)
    send_raw(server, input.subspan(1));
  else
    send_within_tls(server, input.subspan(1));
}

std::vector<Bytes> seeds() {
  std::vector<Bytes> out;
  pb::Frame frame;
  frame.mutable_request()->set_id(3);
  frame.mutable_request()->mutable_lookup()->set_name("a name");
  const auto encoded = encode_frame(frame).value();
  Bytes within{1};
  for (int i = 0; i < 3; ++i) within.insert(within.end(), encoded->begin(), encoded->end());
  out.push_back(within);
  // A ClientHello, as far as a server reads it before it answers.
  int fds[2];
  require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0, "a pair of sockets");
  {
    TlsStream client(fds[0], TestCloud().node("gpu07"));
    (void)client.handshake();
    Bytes hello(4096);
    const ssize_t got = ::recv(fds[1], hello.data(), hello.size(), 0);
    hello.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
    hello.insert(hello.begin(), 0);
    out.push_back(hello);
  }
  ::close(fds[1]);
  out.push_back(Bytes{0, 'G', 'E', 'T', ' ', '/', '\r', '\n', '\r', '\n'});
  return out;
}

}  // namespace

FuzzTarget tls_rpc_target() { return {"tls_rpc", run, seeds, 400}; }

}  // namespace datacloud::fuzz
