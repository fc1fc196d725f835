// Accepting the peers of a served site (site_server.h).
#include "common/store/remote/site_server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <list>
#include <thread>

#include "common/base/log.h"
#include "common/net/accept.h"
#include "common/net/listen.h"
#include "common/store/remote/site_local.h"
#include "common/store/remote/site_peer.h"
#include "common/store/remote/site_share.h"

namespace datacloud {
namespace {

constexpr int kTickMs = 200;  // how soon ended connections are cleared away
constexpr int kAcceptRetryMs = 100;

}  // namespace

class SiteServer::Impl {
 public:
  explicit Impl(SiteServerOptions options)
      : share_(std::make_shared<SiteShare>(std::move(options))),
        wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  ~Impl() {
    stopping_ = true;
    const uint64_t one = 1;
    (void)!::write(wake_, &one, sizeof one);
    if (thread_.joinable()) thread_.join();
    peers_.clear();
    share_->close_stores();
    for (const int fd : listeners_) ::close(fd);
    if (local_ >= 0) ::close(local_);
    ::close(wake_);
  }

  result<void> start() {
    for (const auto& text : share_->options.listen) {
      TRY(const auto address, parse_tls_address(text));
      TRY(const auto fds, listen_tcp(address));
      listeners_.insert(listeners_.end(), fds.begin(), fds.end());
    }
    if (listeners_.empty()) return failure(Errc::invalid, "no address to listen on");
    listen_locally();
    thread_ = std::thread([this] { run(); });
    return success();
  }

  SiteShare& share() { return *share_; }
  size_t connections() const { return count_; }

 private:
  // Without, nodes on this machine use TLS as all others.
  void listen_locally() {
    if (share_->options.limits.window_bytes_max == 0) return;
    std::string name;
    auto fd = listen_local(name);
    if (!fd) {
      spdlog::warn("site {}: nodes on this machine will use TLS: {}", share_->options.site,
                   fd.error().text());
      return;
    }
    local_ = fd.value();
    share_->local_socket = std::move(name);
  }

  void run() {
    std::vector<pollfd> fds{{wake_, POLLIN, 0}};
    for (const int fd : listeners_) fds.push_back({fd, POLLIN, 0});
    if (local_ >= 0) fds.push_back({local_, POLLIN, 0});
    while (!stopping_) {
      (void)::poll(fds.data(), fds.size(), kTickMs);
      peers_.remove_if([](const auto& peer) { return peer->ended(); });
      count_ = peers_.size();
      for (size_t i = 1; i < fds.size() && !stopping_; ++i)
        if (fds[i].revents != 0) accept(fds[i].fd);
    }
  }

  void accept(int listener) {
    if (listener == local_) return accept_locally();
    const auto accepted = accept_tcp(listener);
    if (!accepted) {
      share_->log_refusal(Refusal::too_many, "somebody", accepted.error().message());
      (void)::poll(nullptr, 0, kAcceptRetryMs);
    } else if (accepted.value()) {
      start_peer(*accepted.value());
    }
  }

  void accept_locally() {
    const auto accepted = accept_local(local_);
    if (!accepted) {
      share_->log_refusal(Refusal::too_many, "this machine", accepted.error().message());
      (void)::poll(nullptr, 0, kAcceptRetryMs);
      return;
    }
    if (!accepted.value()) return;
    const int fd = *accepted.value();
    auto place = place_for("this machine");
    if (!place) {
      share_->log_refusal(Refusal::too_many, "this machine", "too many connections or handshakes");
      ::close(fd);
      return;
    }
    peers_.push_back(std::make_unique<SitePeer>(share_, fd, nullptr, std::move(place),
                                                "a process of this machine"));
    count_ = peers_.size();
  }

  std::unique_ptr<HandshakePlaces::Place> place_for(const std::string& host) {
    if (peers_.size() >= share_->options.limits.connections_max) return nullptr;
    return share_->handshakes->take(host);
  }

  void start_peer(const AcceptedPeer& peer) {
    auto context = share_->options.context();
    if (!context) {
      spdlog::error("site {}: cannot take {} in: {}", share_->options.site, peer.address,
                    context.error().text());
      ::close(peer.fd);
      return;
    }
    auto place = place_for(peer.host);
    if (!place) {
      share_->log_refusal(Refusal::too_many, peer.address, "too many connections or handshakes");
      refuse_handshake(peer.fd);
      ::close(peer.fd);
      return;
    }
    set_tcp_options(peer.fd);
    peers_.push_back(std::make_unique<SitePeer>(share_, peer.fd, std::move(context).value(),
                                                std::move(place), peer.address));
    count_ = peers_.size();
  }

  const std::shared_ptr<SiteShare> share_;
  const int wake_;
  std::vector<int> listeners_;
  int local_ = -1;  // the socket of this machine
  std::list<std::unique_ptr<SitePeer>> peers_;
  std::atomic<size_t> count_{0};
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

SiteServer::SiteServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SiteServer::~SiteServer() = default;

result<std::unique_ptr<SiteServer>> SiteServer::start(SiteServerOptions options) {
  auto impl = std::make_unique<Impl>(std::move(options));
  TRY(impl->start());
  return std::unique_ptr<SiteServer>(new SiteServer(std::move(impl)));
}

size_t SiteServer::connections() const { return impl_->connections(); }
const PeerRefusals& SiteServer::refusals() const { return impl_->share().refusals; }
size_t SiteServer::requests() const { return impl_->share().requests(); }
const SiteCounters& SiteServer::counters() const { return impl_->share().counters; }
uint64_t SiteServer::bytes() const { return impl_->share().bytes(); }

}  // namespace datacloud
