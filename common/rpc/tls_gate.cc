// Accepting peers over TLS, and judging them (tls_gate.h).
#include "common/rpc/tls_gate.h"

#include <fmt/format.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/net/listen.h"
#include "common/rpc/tls_handshake.h"

namespace datacloud {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using Descriptor = asio::posix::stream_descriptor;

constexpr int kAcceptsPerTurnMax = 16;
constexpr Duration kAcceptRetry = milliseconds(100);

}  // namespace

struct TlsGate::Listener {
  Listener(asio::io_context& io, int fd, std::string t)
      : waiting(io, fd), retry(io), text(std::move(t)) {}
  Descriptor waiting;  // closes it
  asio::steady_timer retry;
  const std::string text;
};

TlsGate::TlsGate(RpcLoop& loop, RpcThreads& threads, TlsServing serving, Admitted admitted)
    : loop_(loop),
      threads_(threads),
      serving_(std::move(serving)),
      admitted_(std::move(admitted)),
      places_(std::make_shared<HandshakePlaces>(kHandshakesMax, kHandshakesOfOneAddressMax)) {}

TlsGate::~TlsGate() {
  for (const auto& [key, handshake] : handshakes_) handshake->stop();
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
    const auto accepted = accept_tcp(listener.waiting.native_handle());
    if (!accepted) {
      if (loop_.peer_log.allow())
        spdlog::warn("RPC: {}: {}", listener.text, accepted.error().message());
      listener.retry.expires_after(kAcceptRetry);
      listener.retry.async_wait([this, &listener](error_code stopped) {
        if (!stopped) wait(listener);
      });
      return;
    }
    if (!accepted.value()) break;
    start(*accepted.value());
  }
  wait(listener);
}

void TlsGate::start(const AcceptedPeer& peer) {
  // Whoever has to go is told on its own thread; the newcomer's handshake exists once it has a
  // place.
  const auto slot = std::make_shared<std::weak_ptr<TlsHandshake>>();
  auto place = places_->take(peer.host, [slot] {
    if (const auto handshake = slot->lock()) handshake->evict();
  });
  if (!place) {
    note(Refusal::too_many, peer.address, "too many handshakes are under way");
    refuse_handshake(peer.fd);
    ::close(peer.fd);
    return;
  }
  auto context = loop_.with_service(serving_.context);
  const auto handshake =
      std::make_shared<TlsHandshake>(*this, threads_.least_used(), peer, std::move(context));
  *slot = handshake;
  handshakes_[handshake.get()] = handshake;
  handshake->start(std::move(place));
}

void TlsGate::judge(const std::shared_ptr<TlsHandshake>& handshake, const PeerCertificate& shown) {
  PeerCredentials peer;
  peer.address = handshake->address();
  Refusal reason = Refusal::foreign;
  const auto known = loop_.with_service([&] { return serving_.admit(shown, peer, reason); });
  if (!known) return handshake->turn_away(reason, known.error());
  if (auto taken = admitted_(handshake->stream(), handshake->thread(), std::move(peer)); !taken)
    return handshake->turn_away(Refusal::too_many, taken.error());
  ended(handshake);
}

void TlsGate::ended(const std::shared_ptr<TlsHandshake>& handshake) {
  handshakes_.erase(handshake.get());
}

void TlsGate::note(Refusal refusal, const std::string& address, const std::string& why) {
  serving_.refusals->count(refusal);
  if (loop_.peer_log.allow())
    spdlog::warn("RPC: {} turned away ({}): {}", address, refusal_name(refusal), why);
}

}  // namespace datacloud
