// See tls_handshake.h.
#include "common/rpc/tls_handshake.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "common/rpc/rpc_frame.h"

namespace datacloud {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using Descriptor = asio::posix::stream_descriptor;

constexpr Duration kFarewellPatience = seconds(2);
constexpr size_t kFarewellBytesMax = 64 << 10;  // thrown away of a peer that was turned away

}  // namespace

TlsHandshake::TlsHandshake(TlsGate& gate, RpcThread& thread, const AcceptedPeer& peer,
                           std::shared_ptr<const TlsContext> context)
    : gate_(gate),
      thread_(thread),
      stream_(std::make_unique<TlsStream>(peer.fd, std::move(context))),
      tls_(static_cast<TlsStream*>(stream_.get())),
      waiting_(thread.io),
      timer_(thread.io),
      address_(peer.address) {}

TlsHandshake::~TlsHandshake() { stop(); }

void TlsHandshake::stop() {
  error_code ignored;
  timer_.cancel(ignored);
  if (waiting_.is_open()) waiting_.release();
}

void TlsHandshake::start(std::unique_ptr<HandshakePlaces::Place> place) {
  place_ = std::move(place);
  asio::post(thread_.io(), [self = shared_from_this()] {
    error_code failed;
    self->waiting_.assign(self->tls_->fd(), failed);
    if (failed) return self->end();
    set_tcp_options(self->tls_->fd());
    self->expect_within(self->gate_.serving_.handshake_patience, [](TlsHandshake& slow) {
      slow.gate_.note(Refusal::slow, slow.address_, "its handshake took too long");
      slow.end();
    });
    self->step();
  });
}

void TlsHandshake::evict() {
  asio::post(thread_.io(), [self = shared_from_this()] {
    if (!self->waiting_.is_open() || !self->place_) return;  // it has just been completed
    self->gate_.note(Refusal::too_many, self->address_,
                     "its handshake was not going on, and others from there wait");
    if (!self->tls_->greeted()) refuse_handshake(self->tls_->fd());
    self->end();
  });
}

void TlsHandshake::end() {
  stop();
  place_.reset();
  asio::post(gate_.loop_.io, [self = shared_from_this()] { self->gate_.ended(self); });
}

void TlsHandshake::expect_within(Duration patience, void (*otherwise)(TlsHandshake&)) {
  timer_.expires_after(patience);
  timer_.async_wait([weak = weak_from_this(), otherwise](error_code ec) {
    if (const auto self = ec ? nullptr : weak.lock()) otherwise(*self);
  });
}

void TlsHandshake::step() {
  const auto done = tls_->handshake();
  if (!done) {
    gate_.note(Refusal::handshake, address_, done.error().text());
    return end();
  }
  if (done.value()) {
    stop();
    place_.reset();
    asio::post(gate_.loop_.io, [self = shared_from_this(), shown = tls_->peer(wall_now_ns())] {
      self->gate_.judge(self, shown);
    });
    return;
  }
  if (tls_->greeted()) place_->greeted();
  const auto what =
      tls_->handshake_waits_for_room() ? Descriptor::wait_write : Descriptor::wait_read;
  waiting_.async_wait(what, [self = shared_from_this()](error_code ec) {
    if (!ec && self->waiting_.is_open()) self->step();
  });
}

void TlsHandshake::turn_away(Refusal refusal, const Error& why) {
  gate_.note(refusal, address_, why.text());
  asio::post(thread_.io(), [self = shared_from_this(), why] {
    error_code failed;
    self->waiting_.assign(self->tls_->fd(), failed);
    if (failed) return self->end();
    self->say(why);
  });
}

// A frame with id 0 concerns the connection. Closing with bytes unread would reset the connection
// and take the frame away from the peer, so they are read first.
void TlsHandshake::say(const Error& why) {
  pb::Frame frame;
  set_error(*frame.mutable_reply(), why);
  FrameWriter writer;
  if (auto encoded = encode_frame(frame)) writer.push(std::move(encoded).value());
  writer.write_to(*stream_);
  tls_->finish_sending();
  expect_within(kFarewellPatience, [](TlsHandshake& self) { self.end(); });
  drain();
}

void TlsHandshake::drain() {
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

}  // namespace datacloud
