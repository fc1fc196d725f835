// Racing connections (rpc_dial.h).
#include "common/rpc/rpc_dial.h"

#include <fmt/format.h>
#include <netdb.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>

#include "common/net/accept.h"
#include "common/net/address.h"

namespace datacloud {
namespace {

constexpr Duration kBetweenAttempts = milliseconds(250);
constexpr Duration kAskRefusedAgain = milliseconds(250);
constexpr size_t kEndpointsMax = 32;
constexpr int kPollMax = 100;  // ms: how soon a Dial that nobody wants any more ends

struct Endpoint {
  std::string text;
  sockaddr_storage address{};
  socklen_t length = 0;
};

// One address being connected to.
struct Attempt {
  const Endpoint* endpoint = nullptr;
  std::string text;
  int fd = -1;  // until there is a stream
  std::unique_ptr<TlsStream> stream;
  MonotonicTime deadline{};
  bool wants_room = true;  // connecting

  int descriptor() const { return stream ? stream->fd() : fd; }
  Attempt() = default;
  Attempt(Attempt&& o) noexcept
      : endpoint(o.endpoint),
        text(std::move(o.text)),
        fd(std::exchange(o.fd, -1)),
        stream(std::move(o.stream)),
        deadline(o.deadline),
        wants_room(o.wants_room) {}
  Attempt& operator=(Attempt&& o) noexcept {
    std::swap(endpoint, o.endpoint);
    std::swap(text, o.text);
    std::swap(fd, o.fd);
    std::swap(stream, o.stream);
    deadline = o.deadline;
    wants_room = o.wants_room;
    return *this;
  }
  ~Attempt() {
    if (fd >= 0) ::close(fd);
  }
};

std::vector<Endpoint> resolve(const std::vector<std::string>& addresses,
                              std::vector<std::string>& failures) {
  std::vector<Endpoint> out;
  for (const auto& text : addresses) {
    const auto address = parse_tls_address(text);
    if (!address) {
      failures.push_back(address.error().text());
      continue;
    }
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    const std::string port = std::to_string(address.value().port);
    // Numbers first: they need no interface that is up.
    hints.ai_flags = AI_NUMERICSERV | AI_NUMERICHOST;
    int error = ::getaddrinfo(address.value().host.c_str(), port.c_str(), &hints, &found);
    if (error != 0) {
      hints.ai_flags = AI_NUMERICSERV | AI_ADDRCONFIG;
      error = ::getaddrinfo(address.value().host.c_str(), port.c_str(), &hints, &found);
    }
    if (error != 0) {
      failures.push_back(fmt::format("{}: {}", text, ::gai_strerror(error)));
      continue;
    }
    for (const addrinfo* one = found; one != nullptr && out.size() < kEndpointsMax;
         one = one->ai_next) {
      Endpoint endpoint{.text = text};
      std::memcpy(&endpoint.address, one->ai_addr, one->ai_addrlen);
      endpoint.length = one->ai_addrlen;
      out.push_back(std::move(endpoint));
    }
    ::freeaddrinfo(found);
  }
  return out;
}

}  // namespace

struct Dial::State {
  std::vector<std::string> addresses;
  std::shared_ptr<const TlsContext> context;
  Check check;
  int ready = -1;
  std::atomic<bool> cancelled{false};
  std::atomic<bool> answered{false};
  std::mutex mutex;
  std::optional<Outcome> outcome;
  std::string winner;

  ~State() {
    if (ready >= 0) ::close(ready);
  }
  void finish(Outcome what, const std::string& address = {}) {
    {
      std::lock_guard lock(mutex);
      outcome.emplace(std::move(what));
      winner = address;
    }
    const uint64_t one = 1;
    (void)!::write(ready, &one, sizeof one);
  }
};

result<void> check_daemon(const TlsStream& stream) {
  const auto peer = stream.peer(wall_now_ns());
  if (peer.verdict != PeerCertificate::Verdict::good) {
    return failure(Errc::invalid,
                   fmt::format("the daemon's certificate {}{}", peer.problem,
                               peer.verdict == PeerCertificate::Verdict::foreign
                                   ? ": it is another cloud's daemon, or somebody stands between"
                                   : ""));
  }
  if (!peer.named && !peer.identity.roles.has(NodeRole::daemon))
    return failure(Errc::invalid, "the peer is node " + peer.identity.name + ", and no daemon");
  return success();
}

namespace {

// The attempts of one Dial, one after the other and side by side.
class Race {
 public:
  Race(std::shared_ptr<const TlsContext> context, const Dial::Check& check,
       std::vector<std::string>& failures, std::atomic<bool>& answered)
      : context_(std::move(context)), check_(check), failures_(failures), answered_(answered) {}

  bool idle() const { return attempts_.empty(); }
  const std::string& winner() const { return winner_; }

  // One that refused a connection, and may take one now.
  const Endpoint* refused() {
    if (refused_.empty() || monotonic_now() < refused_.front().second) return nullptr;
    const Endpoint* endpoint = refused_.front().first;
    refused_.pop_front();
    return endpoint;
  }

  // `endpoint` outlives this.
  void begin(const Endpoint& endpoint) {
    Attempt attempt;
    attempt.endpoint = &endpoint;
    attempt.text = endpoint.text;
    attempt.deadline = monotonic_now() + kDialAttemptMax;
    attempt.fd =
        ::socket(endpoint.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (attempt.fd < 0 ||
        (::connect(attempt.fd, reinterpret_cast<const sockaddr*>(&endpoint.address),
                   endpoint.length) != 0 &&
         errno != EINPROGRESS)) {
      return not_there(attempt, errno);
    }
    set_tcp_options(attempt.fd);
    attempts_.push_back(std::move(attempt));
  }

  // Waits a moment; the winner, if there is one.
  std::unique_ptr<TlsStream> step(int wait_ms) {
    std::vector<pollfd> fds;
    for (const auto& attempt : attempts_)
      fds.push_back(
          {attempt.descriptor(), static_cast<short>(attempt.wants_room ? POLLOUT : POLLIN), 0});
    (void)::poll(fds.data(), fds.size(), wait_ms);
    std::unique_ptr<TlsStream> winner;
    for (size_t i = 0; i < fds.size() && !winner; ++i) {
      Attempt& attempt = attempts_[i];
      bool over = false;
      if (fds[i].revents != 0) {
        over = !advance(attempt, winner);
      } else if (monotonic_now() > attempt.deadline) {
        failures_.push_back(attempt.text +
                            (attempt.stream ? ": no answer to the TLS handshake" : ": no answer"));
        over = true;
      }
      if (over) attempt.deadline = MonotonicTime::min();
    }
    std::erase_if(attempts_, [](const auto& a) { return a.deadline == MonotonicTime::min(); });
    return winner;
  }

 private:
  // False: it is over, with the winner or a failure.
  bool advance(Attempt& attempt, std::unique_ptr<TlsStream>& winner) {
    const auto failed = [&](const std::string& why) {
      failures_.push_back(attempt.text + ": " + why);
      return false;
    };
    if (!attempt.stream) {
      int error = 0;
      socklen_t length = sizeof error;
      ::getsockopt(attempt.fd, SOL_SOCKET, SO_ERROR, &error, &length);
      if (error != 0) {
        not_there(attempt, error);
        return false;
      }
      answered_ = true;
      attempt.stream = std::make_unique<TlsStream>(std::exchange(attempt.fd, -1), context_);
    }
    const auto done = attempt.stream->handshake();
    if (!done)
      return failed(done.error().text() +
                    " (a daemon with too many handshakes at once, from here or in all, ends them "
                    "unheard; its log says so)");
    attempt.wants_room = attempt.stream->handshake_waits_for_room();
    if (!done.value()) return true;
    if (auto trusted = check_(*attempt.stream); !trusted) return failed(trusted.error().text());
    winner = std::move(attempt.stream);
    winner_ = attempt.text;
    return false;
  }

  void not_there(const Attempt& attempt, int error) {
    std::string why = fmt::format("{}: {}", attempt.text, std::strerror(error));
    if (std::find(failures_.begin(), failures_.end(), why) == failures_.end())
      failures_.push_back(std::move(why));
    refused_.emplace_back(attempt.endpoint, monotonic_now() + kAskRefusedAgain);
  }

  const std::shared_ptr<const TlsContext> context_;
  const Dial::Check& check_;
  std::vector<std::string>& failures_;
  std::atomic<bool>& answered_;
  std::vector<Attempt> attempts_;
  std::deque<std::pair<const Endpoint*, MonotonicTime>> refused_;  // and when to ask again
  std::string winner_;
};

}  // namespace

void Dial::run(const std::shared_ptr<State>& state) {
  std::vector<std::string> failures;
  const auto endpoints = resolve(state->addresses, failures);
  Race race(state->context, state->check, failures, state->answered);
  const auto until = monotonic_now() + kDialPatience;
  size_t next = 0;
  MonotonicTime next_at{};
  while (!state->cancelled && monotonic_now() < until) {
    if (next < endpoints.size() && (race.idle() || monotonic_now() >= next_at)) {
      race.begin(endpoints[next++]);
      next_at = monotonic_now() + kBetweenAttempts;
      continue;
    }
    if (race.idle()) break;
    if (const Endpoint* again = race.refused()) race.begin(*again);
    if (auto winner = race.step(kPollMax))
      return state->finish(Outcome(std::move(winner)), race.winner());
  }
  if (!race.idle()) failures.push_back("no answer from the others");
  // The same failure of several addresses of one name is told once.
  std::vector<std::string> told;
  for (auto& failure : failures)
    if (std::find(told.begin(), told.end(), failure) == told.end()) told.push_back(failure);
  state->finish(failure(Errc::unavailable, fmt::format("{}", fmt::join(told, "; "))));
}

Dial::Dial(std::vector<std::string> addresses, std::shared_ptr<const TlsContext> context,
           Check check)
    : state_(std::make_shared<State>()) {
  state_->addresses = std::move(addresses);
  state_->context = std::move(context);
  state_->check = std::move(check);
  state_->ready = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (state_->ready < 0) {
    state_->outcome.emplace(failure(Error::posix(errno, "cannot make an event descriptor")));
    return;
  }
  std::thread([state = state_] { run(state); }).detach();
}

Dial::~Dial() { state_->cancelled = true; }

bool Dial::answered() const { return state_->answered; }

std::string Dial::winner() const {
  std::lock_guard lock(state_->mutex);
  return state_->winner;
}

int Dial::ready_fd() const { return state_->ready; }

std::optional<Dial::Outcome> Dial::take() {
  std::lock_guard lock(state_->mutex);
  if (!state_->outcome) return std::nullopt;
  std::optional<Outcome> out(std::move(*state_->outcome));
  state_->outcome.reset();
  return out;
}

Dial::Outcome Dial::wait() {
  for (;;) {
    if (auto outcome = take()) return std::move(*outcome);
    pollfd waiting{state_->ready, POLLIN, 0};
    (void)::poll(&waiting, 1, kPollMax);
  }
}

}  // namespace datacloud
