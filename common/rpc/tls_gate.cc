// Accepting peers over TLS (tls_gate.h).
#include "common/rpc/tls_gate.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "common/base/log.h"
#include "common/net/listen.h"
#include "common/rpc/rpc_frame.h"

namespace datacloud {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using Descriptor = asio::posix::stream_descriptor;

constexpr Duration kFarewellPatience = seconds(2);
constexpr size_t kFarewellBytesMax = 64 << 10;  // thrown away of a peer that was turned away
constexpr int kAcceptsPerTurnMax = 16;
constexpr Duration kAcceptRetry = milliseconds(100);

}  // namespace

void set_tcp_options(int fd) {
  const auto set = [&](int level, int option, int value) {
    (void)::setsockopt(fd, level, option, &value, sizeof value);
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 10);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 20'000);
}

// One peer on its way in, or out again.
class TlsHandshake : public std::enable_shared_from_this<TlsHandshake> {
 public:
  TlsHandshake(TlsGate& gate, int fd, std::shared_ptr<const TlsContext> context, std::string host,
               const std::string& port)
      : gate_(gate),
        stream_(std::make_unique<TlsStream>(fd, std::move(context))),
        tls_(static_cast<TlsStream*>(stream_.get())),
        waiting_(gate.loop_.io, fd),
        timer_(gate.loop_.io),
        host_(std::move(host)),
        address_(host_.find(':') != std::string::npos ? "[" + host_ + "]:" + port
                                                      : host_ + ":" + port) {}
  ~TlsHandshake() { stop(); }

  const std::string& host() const { return host_; }

  void start() {
    expect_within(gate_.serving_.handshake_patience, [](TlsHandshake& self) {
      self.gate_.note(Refusal::slow, self.address_, "its handshake took too long");
      self.end();
    });
    step();
  }
  void stop() {
    timer_.cancel();
    if (waiting_.is_open()) waiting_.release();
  }

 private:
  void end() {
    stop();
    gate_.ended(shared_from_this());
  }

  void expect_within(Duration patience, void (*otherwise)(TlsHandshake&)) {
    timer_.expires_after(patience);
    timer_.async_wait([weak = weak_from_this(), otherwise](error_code ec) {
      if (const auto self = ec ? nullptr : weak.lock()) otherwise(*self);
    });
  }

  void step() {
    const auto done = tls_->handshake();
    if (!done) {
      gate_.note(Refusal::handshake, address_, done.error().text());
      return end();
    }
    if (done.value()) return judge();
    const auto what =
        tls_->handshake_waits_for_room() ? Descriptor::wait_write : Descriptor::wait_read;
    waiting_.async_wait(what, [self = shared_from_this()](error_code ec) {
      if (!ec && self->waiting_.is_open()) self->step();
    });
  }

  void judge() {
    PeerCredentials peer;
    peer.address = address_;
    Refusal reason = Refusal::foreign;
    if (auto known = gate_.serving_.admit(tls_->peer(wall_now_ns()), peer, reason); !known)
      return turn_away(reason, known.error());
    stop();
    const auto self = shared_from_this();
    if (auto taken = gate_.admitted_(stream_, std::move(peer)); !taken) {
      waiting_.assign(tls_->fd());
      return turn_away(Refusal::too_many, taken.error());
    }
    gate_.ended(self);
  }

  // A frame with id 0 concerns the connection. Closing with bytes unread would reset the connection
  // and take the frame away from the peer, so they are read first.
  void turn_away(Refusal refusal, const Error& why) {
    gate_.note(refusal, address_, why.text());
    pb::Frame frame;
    set_error(*frame.mutable_reply(), why);
    FrameWriter writer;
    if (auto encoded = encode_frame(frame)) writer.push(std::move(encoded).value());
    writer.write_to(*stream_);
    tls_->finish_sending();
    expect_within(kFarewellPatience, [](TlsHandshake& self) { self.end(); });
    drain();
  }

  void drain() {
    std::array<uint8_t, 4096> thrown_away;
    for (;;) {
      const ssize_t got = ::recv(tls_->fd(), thrown_away.data(), thrown_away.size(), MSG_DONTWAIT);
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) break;
      if (got <= 0) return end();
      drained_ += static_cast<size_t>(got);
      if (drained_ > kFarewellBytesMax) return end();
    }
    waiting_.async_wait(Descriptor::wait_read, [self = shared_from_this()](error_code ec) {
      if (!ec && self->waiting_.is_open()) self->drain();
    });
  }

  TlsGate& gate_;
  std::unique_ptr<ByteStream> stream_;
  TlsStream* const tls_;  // the same
  Descriptor waiting_;    // never closes it
  asio::steady_timer timer_;
  const std::string host_;
  const std::string address_;
  size_t drained_ = 0;
};

struct TlsGate::Listener {
  Listener(asio::io_context& io, int fd, std::string t)
      : waiting(io, fd), retry(io), text(std::move(t)) {}
  Descriptor waiting;  // closes it
  asio::steady_timer retry;
  const std::string text;
};

TlsGate::TlsGate(RpcLoop& loop, TlsServing serving, Admitted admitted)
    : loop_(loop), serving_(std::move(serving)), admitted_(std::move(admitted)) {}

TlsGate::~TlsGate() {
  for (const auto& handshake : handshakes_) handshake->stop();
}

result<void> TlsGate::listen(const TlsAddress& address) {
  TRY(const auto listening, listen_tcp(address));
  for (const int fd : listening) {
    listeners_.push_back(std::make_unique<Listener>(loop_.io, fd, to_text(address)));
    wait(*listeners_.back());
  }
  return success();
}

void TlsGate::wait(Listener& listener) {
  listener.waiting.async_wait(Descriptor::wait_read, [this, &listener](error_code ec) {
    if (!ec) accept(listener);
  });
}

void TlsGate::accept(Listener& listener) {
  for (int i = 0; i < kAcceptsPerTurnMax; ++i) {
    sockaddr_storage from{};
    socklen_t length = sizeof from;
    const int fd = ::accept4(listener.waiting.native_handle(), reinterpret_cast<sockaddr*>(&from),
                             &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) break;
      if (loop_.peer_log.allow())
        spdlog::warn("RPC: cannot accept on {}: {}", listener.text, std::strerror(errno));
      listener.retry.expires_after(kAcceptRetry);
      listener.retry.async_wait([this, &listener](error_code stopped) {
        if (!stopped) wait(listener);
      });
      return;
    }
    std::array<char, NI_MAXHOST> host{};
    std::array<char, NI_MAXSERV> port{};
    if (::getnameinfo(reinterpret_cast<sockaddr*>(&from), length, host.data(), host.size(),
                      port.data(), port.size(), NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
      ::close(fd);
      continue;
    }
    start(fd, host.data(), port.data());
  }
  wait(listener);
}

void TlsGate::start(int fd, const std::string& host, const std::string& port) {
  const size_t of_host = by_host_.contains(host) ? by_host_[host] : 0;
  if (handshakes_.size() >= kHandshakesMax || of_host >= kHandshakesOfOneAddressMax) {
    note(Refusal::too_many, host,
         fmt::format("{} handshakes are under way{}",
                     of_host >= kHandshakesOfOneAddressMax ? of_host : handshakes_.size(),
                     of_host >= kHandshakesOfOneAddressMax ? " from there" : ""));
    ::close(fd);
    return;
  }
  set_tcp_options(fd);
  const auto handshake = std::make_shared<TlsHandshake>(*this, fd, serving_.context(), host, port);
  handshakes_.insert(handshake);
  ++by_host_[host];
  handshake->start();
}

void TlsGate::ended(const std::shared_ptr<TlsHandshake>& handshake) {
  if (handshakes_.erase(handshake) == 0) return;
  const auto count = by_host_.find(handshake->host());
  if (count != by_host_.end() && --count->second == 0) by_host_.erase(count);
}

void TlsGate::note(Refusal refusal, const std::string& address, const std::string& why) {
  serving_.refusals->count(refusal);
  if (loop_.peer_log.allow())
    spdlog::warn("RPC: {} turned away ({}): {}", address, refusal_name(refusal), why);
}

}  // namespace datacloud
