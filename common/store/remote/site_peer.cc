// See site_peer.h. All but the outbox belongs to the connection's thread.
#include "common/store/remote/site_peer.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>

#include "common/base/check.h"
#include "common/store/remote/site_local.h"
#include "common/store/remote/site_messages.h"
#include "common/store/remote/site_requests.h"

namespace datacloud {
namespace {

constexpr Duration kBeat = seconds(1);  // a sign of life, while an answer is owed
constexpr Duration kFarewellPatience = seconds(2);
constexpr size_t kFarewellBytesMax = 1u << 20;  // thrown away of a peer that was turned away
constexpr int kTickMs = 500, kPausedTickMs = 5, kHandshakeTickMs = 100;

}  // namespace

// Where the store's threads leave answers.
class SiteOutbox {
 public:
  SiteOutbox() : wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    DC_CHECK(wake_ >= 0, "an event descriptor");
  }
  ~SiteOutbox() { ::close(wake_); }
  void push(SiteFrameOut frame) {
    {
      std::lock_guard lock(mutex_);
      if (closed_) return;
      frames_.push_back(std::move(frame));
    }
    wake();
  }
  std::vector<SiteFrameOut> take() {
    uint64_t ignored = 0;
    (void)!::read(wake_, &ignored, sizeof ignored);
    std::lock_guard lock(mutex_);
    return std::exchange(frames_, {});
  }
  void close() {
    std::vector<SiteFrameOut> dropped;
    std::lock_guard lock(mutex_);
    closed_ = true;
    dropped.swap(frames_);
  }
  void wake() {
    const uint64_t one = 1;
    (void)!::write(wake_, &one, sizeof one);
  }
  int fd() const { return wake_; }

 private:
  const int wake_;
  std::mutex mutex_;
  std::vector<SiteFrameOut> frames_;
  bool closed_ = false;
};

// What a connection's requests hold, until their answers have been sent.
struct SiteHeld {
  std::atomic<size_t> requests{0};
  std::atomic<uint64_t> bytes{0};
};
struct SiteHeldRequest {
  std::shared_ptr<SiteShare::Reservation> reservation;
  std::shared_ptr<SiteHeld> held;
  uint64_t bytes = 0;
  SiteHeldRequest(std::shared_ptr<SiteShare::Reservation> r, std::shared_ptr<SiteHeld> h,
                  uint64_t n)
      : reservation(std::move(r)), held(std::move(h)), bytes(n) {
    ++held->requests;
    held->bytes += bytes;
  }
  ~SiteHeldRequest() {
    --held->requests;
    held->bytes -= bytes;
  }
  SiteHeldRequest(const SiteHeldRequest&) = delete;
  SiteHeldRequest& operator=(const SiteHeldRequest&) = delete;
};

class SitePeer::Run final : public SiteLink::Owner {
 public:
  Run(std::shared_ptr<SiteShare> share, int fd, std::shared_ptr<const TlsContext> context,
      std::unique_ptr<HandshakePlaces::Place> place, std::string address)
      : share_(std::move(share)), place_(std::move(place)), address_(std::move(address)) {
    if (context)
      stream_ = std::make_unique<TlsStream>(fd, std::move(context));
    else
      local_ = make_socket_stream(fd);
  }
  ~Run() override {
    if (window_) share_->give_back_window(window_->size());
  }

  void stop() {
    stopping_ = true;
    outbox_->wake();
  }

  void run() {
    const bool local = local_ != nullptr;
    const bool shaken = local ? take_ticket() : shake_hands();
    place_.reset();
    if (shaken && local) {
      serve();
      share_->end_node(admission_.node);
    } else if (shaken) {
      Refusal reason = Refusal::foreign;
      if (auto admitted = admit(reason); !admitted) {
        turn_away(reason, admitted.error());
      } else {
        serve();
        share_->end_node(admission_.node);
      }
    }
    outbox_->close();
    link_.reset();
    stream_.reset();
    local_.reset();
    store_.reset();
  }

 private:
  bool shake_hands() {
    const auto until = monotonic_now() + share_->options.limits.handshake_max;
    while (!stopping_) {
      const auto done = stream_->handshake();
      if (!done) {
        share_->log_refusal(Refusal::handshake, address_, done.error().text());
        return false;
      }
      if (done.value()) return true;
      if (stream_->greeted()) place_->greeted();
      if (place_->evicted()) {
        share_->log_refusal(Refusal::too_many, address_,
                            "its handshake was not going on, and others from there wait");
        if (!stream_->greeted()) refuse_handshake(stream_->fd());
        return false;
      }
      const auto left = std::chrono::ceil<milliseconds>(until - monotonic_now()).count();
      if (left <= 0) {
        share_->log_refusal(Refusal::slow, address_, "its handshake took too long");
        return false;
      }
      const short what = stream_->handshake_waits_for_room() ? POLLOUT : POLLIN;
      pollfd fds[2] = {{stream_->fd(), what, 0}, {outbox_->fd(), POLLIN, 0}};
      (void)::poll(fds, 2, static_cast<int>(std::min<int64_t>(left, kHandshakeTickMs)));
    }
    return false;
  }

  // Of a node on this machine, whose certificate was judged on another connection.
  bool take_ticket() {
    const auto until = monotonic_now() + share_->options.limits.handshake_max;
    for (;;) {
      auto shown = receive_ticket(local_->fd());
      if (!shown) return refuse_local(shown.error().text());
      if (shown.value()) return admit_local(*shown.value());
      const auto left = std::chrono::ceil<milliseconds>(until - monotonic_now()).count();
      if (stopping_) return false;
      if (place_->evicted()) return refuse_local("others wait for its place");
      if (left <= 0) {
        share_->log_refusal(Refusal::slow, address_, "its ticket does not come");
        return false;
      }
      pollfd fds[2] = {{local_->fd(), POLLIN, 0}, {outbox_->fd(), POLLIN, 0}};
      (void)::poll(fds, 2, static_cast<int>(std::min<int64_t>(left, kHandshakeTickMs)));
    }
  }

  bool refuse_local(const std::string& why) {
    share_->log_refusal(Refusal::handshake, address_, why);
    return false;
  }

  bool admit_local(const ShownTicket& shown) {
    auto holder = share_->tickets.redeem(shown.ticket);
    if (!holder || peer_uid(local_->fd()) != holder->uid) {
      ::close(shown.fd);
      return refuse_local(holder ? "its ticket was another user's" : "its ticket is not good");
    }
    auto window = SiteWindow::adopt(shown.fd, share_->options.limits.window_bytes_max);
    if (!window) return refuse_local(window.error().text());
    if (!share_->take_window(window.value()->size()))
      return refuse_local("there is no room for more shared memory");
    window_ = std::move(window).value();
    admission_ = std::move(holder->admission);
    if (!share_->begin_node(admission_.node)) {
      share_->log_refusal(Refusal::too_many, address_,
                          "node " + admission_.node + " has too many connections here");
      return false;
    }
    ++share_->counters.connections;
    ++share_->counters.local_connections;
    return true;
  }

  // A certificate of the node's organisation: it counts when the daemon's records have it, and is
  // whose they say. By the list there is: strangers shall not have the daemon asked.
  void know_by_record(PeerCertificate& shown) const {
    const auto& options = share_->options;
    if (!options.certified || !options.nodes) return;
    PeerCertificate pinned = stream_->peer_pinned(wall_now_ns());
    const auto node = options.certified->find(pinned.serial);
    if (!node || !options.nodes->holds(pinned.serial)) return;
    pinned.identity = {options.cloud_uuid, node->name, node->roles};
    shown = std::move(pinned);
  }

  result<void> admit(Refusal& reason) {
    using Verdict = PeerCertificate::Verdict;
    const auto refused = [&](Refusal why, const std::string& text) {
      reason = why;
      return failure(Error::posix(EACCES, text));
    };
    PeerCertificate shown = stream_->peer(wall_now_ns());
    if (shown.verdict == Verdict::foreign) know_by_record(shown);
    switch (shown.verdict) {
      case Verdict::none:
        return refused(Refusal::no_certificate,
                       "no certificate was shown; `datacloud join` makes one");
      case Verdict::foreign:
        return refused(Refusal::foreign, "the certificate " + shown.problem);
      case Verdict::expired:
        return refused(Refusal::expired,
                       "the certificate of node " + shown.identity.name + " " + shown.problem);
      case Verdict::unfit:
        return refused(Refusal::wrong_role, "the certificate " + shown.problem);
      case Verdict::good:
        break;
    }
    if (shown.identity.cloud_uuid != share_->options.cloud_uuid)
      return refused(Refusal::wrong_cloud, "the certificate is one of another cloud");
    const NodeRoles& roles = shown.identity.roles;
    admission_.may_change = roles.has(NodeRole::mount);
    admission_.may_format = roles.has(NodeRole::admin);
    admission_.may_log = roles.has(NodeRole::daemon);
    const bool may_read = admission_.may_change || admission_.may_format ||
                          roles.has(NodeRole::mount_ro) || roles.has(NodeRole::auditor);
    if (!may_read) {
      return refused(Refusal::wrong_role, fmt::format("node {} may not use sites: its role is {}",
                                                      shown.identity.name, roles.text()));
    }
    if (share_->options.nodes && !roles.has(NodeRole::daemon)) {
      if (auto known = share_->options.nodes->admit(shown.serial); !known)
        return refused(Refusal::revoked,
                       "node " + shown.identity.name + ": " + known.error().text());
      admission_.serial = shown.serial;
    }
    if (!share_->begin_node(shown.identity.name))
      return refused(Refusal::too_many,
                     "node " + shown.identity.name + " has too many connections here");
    ++share_->counters.connections;
    admission_.node = shown.identity.name;
    admission_.certificate_end_ns = shown.not_after_ns;
    return success();
  }

  // Closing with bytes unread would reset the connection and take the reason away from the peer, so
  // they are read first.
  void turn_away(Refusal refusal, const Error& why) {
    share_->log_refusal(refusal, address_, why.text());
    pb::StoreReply reply;
    set_error(reply, why);
    const SiteFrameOut frame = site_answer(0, std::move(reply), nullptr);
    const iovec part{const_cast<uint8_t*>(frame.head.data()), frame.head.size()};
    (void)stream_->send({&part, 1});
    stream_->finish_sending();
    const auto until = monotonic_now() + kFarewellPatience;
    std::array<uint8_t, 4096> thrown_away;
    for (size_t drained = 0; drained < kFarewellBytesMax && !stopping_;) {
      const auto left = std::chrono::ceil<milliseconds>(until - monotonic_now()).count();
      if (left <= 0) return;
      pollfd fds[2] = {{stream_->fd(), POLLIN, 0}, {outbox_->fd(), POLLIN, 0}};
      (void)::poll(fds, 2, static_cast<int>(left));
      const ssize_t got =
          ::recv(stream_->fd(), thrown_away.data(), thrown_away.size(), MSG_DONTWAIT);
      if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return;
      drained += static_cast<size_t>(std::max<ssize_t>(got, 0));
    }
  }

  void serve() {
    const int tcp = stream_ ? stream_->fd() : -1;
    of_this_machine_ = tcp >= 0 && is_of_this_machine(tcp);
    if (stream_)
      link_.emplace(std::move(stream_));
    else
      link_.emplace(std::move(local_));
    for (;;) {
      for (auto& frame : outbox_->take()) send(std::move(frame));
      if (stopping_) return;  // after take(), which may have taken stop()'s wake-up
      const auto turned = link_->turn(*this);
      if (!turned) {
        if (!turned.error().is(Errc::unavailable))
          share_->log_refusal(Refusal::handshake, address_, turned.error().text());
        return;
      }
      if (turned.value()) continue;
      if (!beat_and_look()) return;
      pollfd fds[2] = {{link_->stream().fd(), link_->events(), 0}, {outbox_->fd(), POLLIN, 0}};
      (void)::poll(fds, 2, link_->paused() ? kPausedTickMs : kTickMs);
    }
  }

  // False: the peer has stalled, or its certificate has ended.
  bool beat_and_look() {
    const auto now = monotonic_now();
    const auto stall = share_->options.limits.stall_max;
    if (link_->paused() || !link_->receiving()) not_awaited_at_ = now;
    if (link_->sending() && now > link_->moved_at() + stall) {
      share_->log_refusal(Refusal::slow, address_, "it does not take its answers");
      return false;
    }
    if (now > std::max(link_->heard_at(), not_awaited_at_) + stall) {
      share_->log_refusal(Refusal::slow, address_, "the rest of its request does not come");
      return false;
    }
    if (wall_now_ns() > admission_.certificate_end_ns) return false;
    if (!admission_.serial.empty() && !share_->options.nodes->holds(admission_.serial)) {
      share_->log_refusal(Refusal::revoked, address_,
                          "node " + admission_.node + " is not in force any more");
      return false;
    }
    const bool owed = held_->requests != 0 || link_->receiving();
    if (owed && !link_->sending() && now > beat_at_ + kBeat) {
      beat_at_ = now;
      send(site_answer(0, {}, nullptr));
    }
    return true;
  }

  void send(SiteFrameOut frame) {
    uint64_t bytes = frame.head.size();
    for (const auto& part : frame.parts) bytes += part.size();
    share_->counters.sent_bytes += bytes + frame.in_window;
    share_->counters.window_bytes += frame.in_window;
    link_->send(std::move(frame));
  }

  void count(const SiteFrameReader::Whole& whole) {
    auto& counters = share_->counters;
    uint64_t bytes = whole.head.ByteSizeLong();
    for (const auto& segment : whole.segments) bytes += segment.size();
    const uint64_t in_window = bytes_in_window(whole.head);
    counters.received_bytes += bytes + in_window;
    counters.window_bytes += in_window;
    const auto kind = static_cast<size_t>(whole.head.request().op_case());
    if (kind < SiteCounters::kinds_max) ++counters.requests[kind];
  }

  result<bool> on_head(const pb::StoreFrame& head, uint64_t segment_bytes) override {
    if (!head.has_request() || head.id() == 0)
      return failure(Errc::corrupt, "what came is no request");
    if (!fits_window(head, window_.get()))
      return failure(Errc::corrupt, "a request names memory outside the shared window");
    const auto& limits = share_->options.limits;
    const uint64_t bytes = segment_bytes + answer_bytes_max(head.request());
    const size_t requests = held_->requests;
    if (requests >= limits.requests_of_connection_max ||
        (requests > 0 && held_->bytes + bytes > limits.bytes_of_connection_max)) {
      return false;
    }
    auto reservation = SiteShare::reserve(share_, bytes);
    if (!reservation) return false;
    taken_ = std::make_shared<SiteHeldRequest>(std::move(reservation), held_, bytes);
    return true;
  }

  result<void> on_frame(SiteFrameReader::Whole whole) override {
    count(whole);
    const std::shared_ptr<SiteHeldRequest> held = std::move(taken_);
    const uint64_t id = whole.head.id();
    const pb::StoreRequest& request = whole.head.request();
    const auto answer = [&](const Error* error, pb::StoreReply reply = {}) -> result<void> {
      if (error != nullptr) set_error(reply, *error);
      send(site_answer(id, std::move(reply), held));
      return success();
    };
    const auto refuse = [&](const Error& error) {
      ++share_->counters.refused;
      return answer(&error);
    };
    if (request.has_hello()) {
      pb::StoreReply reply;
      auto done = greet(request.hello(), reply);
      return done ? answer(nullptr, std::move(reply)) : refuse(done.error());
    }
    if (request.has_format()) {
      if (!admission_.may_format)
        return refuse(Error::posix(EACCES, "node " + admission_.node + " may not format the site"));
      auto done = format(request.format().marker());
      return done ? answer(nullptr) : refuse(done.error());
    }
    if (!store_) return refuse(Error(Errc::invalid, "a connection begins with hello"));
    const auto push = [outbox = outbox_](SiteFrameOut frame) { outbox->push(std::move(frame)); };
    if (request.has_log()) {
      if (!admission_.may_log)
        return refuse(Error::posix(
            EACCES, "the journal is the daemon's, and not of node " + admission_.node));
      run_site_log(share_->options.log, marker_, std::move(whole), held, push);
      return success();
    }
    if (changes_site(request) && !admission_.may_change)
      return refuse(Error::posix(EROFS, "node " + admission_.node + " may change nothing"));
    run_site_request(*store_, std::move(whole), window_, held, push);
    return success();
  }

  result<void> greet(const pb::StoreHello& hello, pb::StoreReply& reply) {
    if (!hello.marker().empty()) {
      TRY(const auto marker, SiteMarker::decode(hello.marker()));
      TRY(store_, share_->store_for(marker));
      marker_ = marker;
      if (hello.local() && of_this_machine_) offer_local(hello.uid(), *reply.mutable_local());
      return success();
    }
    const auto marker = share_->options.marker();
    if (marker)
      reply.set_marker(marker.value().encode());
    else if (!marker.error().is(Errc::not_found))
      return failure(marker.error());
    return success();
  }

  // Left empty where there is no way by a local socket now.
  void offer_local(uid_t uid, pb::StoreLocal& offer) {
    if (share_->local_socket.empty() || !share_->room_for_window()) return;
    const auto ticket = share_->tickets.issue({admission_, uid});
    if (!ticket) return;
    offer.set_socket(share_->local_socket);
    offer.set_ticket(*ticket);
    offer.set_uid(::geteuid());
    offer.set_window_bytes_max(share_->options.limits.window_bytes_max);
  }

  result<void> format(const std::string& text) {
    TRY(const auto marker, SiteMarker::decode(text));
    if (marker.cloud_uuid != share_->options.cloud_uuid ||
        marker.site_name != share_->options.site) {
      return failure(Errc::invalid,
                     "site " + share_->options.site + " is served here, not " + marker.site_name);
    }
    return share_->options.format(marker);
  }

  const std::shared_ptr<SiteShare> share_;
  std::unique_ptr<HandshakePlaces::Place> place_;  // while the handshake lasts
  const std::string address_;
  std::unique_ptr<TlsStream> stream_;  // one of both, until link_ has it
  std::unique_ptr<ByteStream> local_;
  std::optional<SiteLink> link_;
  const std::shared_ptr<SiteOutbox> outbox_ = std::make_shared<SiteOutbox>();
  const std::shared_ptr<SiteHeld> held_ = std::make_shared<SiteHeld>();
  std::shared_ptr<SiteHeldRequest> taken_;  // of the frame that is being received
  std::shared_ptr<ObjectStore> store_;
  SiteAdmission admission_;
  std::shared_ptr<const SiteWindow> window_;  // of a local connection
  bool of_this_machine_ = false;              // the peer of a TLS connection is
  SiteMarker marker_;                         // that store_ expects
  MonotonicTime beat_at_{}, not_awaited_at_ = monotonic_now();
  std::atomic<bool> stopping_{false};
};

SitePeer::SitePeer(std::shared_ptr<SiteShare> share, int fd,
                   std::shared_ptr<const TlsContext> context,
                   std::unique_ptr<HandshakePlaces::Place> place, std::string address)
    : run_(std::make_unique<Run>(std::move(share), fd, std::move(context), std::move(place),
                                 std::move(address))),
      thread_([this] {
        run_->run();
        ended_ = true;
      }) {}

SitePeer::~SitePeer() {
  run_->stop();
  thread_.join();
}

}  // namespace datacloud
