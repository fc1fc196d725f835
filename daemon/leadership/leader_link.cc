// See leader_link.h.
#include "daemon/leadership/leader_link.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "common/net/address.h"
#include "common/proto/admin.pb.h"
#include "daemon/metadata/journal_records.h"

namespace datacloud {
namespace {

constexpr auto kLook = milliseconds(20);   // whether the connection still stands
constexpr auto kAgain = milliseconds(60);  // after a refusal, or a connection that was lost
constexpr int kProbeMs = 300;

// Whether the peer refuses: nobody listens there.
bool refuses(int family, const sockaddr* to, socklen_t length) {
  const int fd = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return false;
  int error = ::connect(fd, to, length) == 0 ? 0 : errno;
  if (error == EINPROGRESS) {
    pollfd ready{fd, POLLOUT, 0};
    socklen_t size = sizeof(error);
    if (::poll(&ready, 1, kProbeMs) != 1 ||
        ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
      error = ETIMEDOUT;
    }
  }
  ::close(fd);
  return error == ECONNREFUSED || error == ENOENT;
}

bool refuses(const std::string& address) {
  if (!is_tls_address(address)) {
    const auto path = unix_socket_path(address);
    if (!path) return true;
    sockaddr_un to{};
    fill_unix_address(path.value(), to);
    return refuses(AF_UNIX, reinterpret_cast<const sockaddr*>(&to), sizeof(to));
  }
  const auto parsed = parse_tls_address(address);
  if (!parsed) return true;
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG;
  addrinfo* found = nullptr;
  const std::string port = std::to_string(parsed.value().port);
  if (::getaddrinfo(parsed.value().host.c_str(), port.c_str(), &hints, &found) != 0) return false;
  bool all = found != nullptr;
  for (const addrinfo* at = found; at != nullptr && all; at = at->ai_next) {
    all = refuses(at->ai_family, at->ai_addr, at->ai_addrlen);
  }
  ::freeaddrinfo(found);
  return all;
}

// What one call is answered; the RPC client's thread fills it.
struct LinkAnswer {
  std::mutex mutex;
  std::condition_variable arrived;
  std::optional<result<pb::Reply>> reply;
};

}  // namespace

bool nobody_listens(const std::vector<std::string>& addresses) {
  for (const auto& address : addresses) {
    if (!refuses(address)) return false;
  }
  return true;
}

LeaderLink::LeaderLink(Options options)
    : options_(std::move(options)), thread_([this] { run(); }) {}

LeaderLink::~LeaderLink() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void LeaderLink::set_leader(std::vector<std::string> addresses) {
  {
    std::lock_guard lock(mutex_);
    if (addresses_ == addresses) return;
    addresses_ = std::move(addresses);
    noted_.last.Clear();
    noted_.failure.clear();
  }
  changed_.notify_all();
}

void LeaderLink::set_position(const journal::LogPosition& position) {
  auto encoded = encode_position(position);
  std::lock_guard lock(mutex_);
  position_ = std::move(encoded);
}

LeaderLink::Noted LeaderLink::noted() const {
  std::lock_guard lock(mutex_);
  return noted_;
}

bool LeaderLink::wait(std::unique_lock<std::mutex>& lock, Duration time) {
  changed_.wait_for(lock, time, [this] { return stop_; });
  return !stop_;
}

// After a connection was lost or could not be made, whether anybody listens there tells more.
void LeaderLink::run() {
  std::unique_lock lock(mutex_);
  for (bool failed = false; !stop_;) {
    if (addresses_.empty()) {
      changed_.wait(lock, [this] { return stop_ || !addresses_.empty(); });
      failed = false;
      continue;
    }
    const auto addresses = addresses_;
    lock.unlock();
    const bool nobody = failed && nobody_listens(addresses);
    nobody ? note_refusal() : talk(addresses);
    failed = true;
    lock.lock();
    if (!wait(lock, kAgain)) return;
  }
}

void LeaderLink::note_refusal() {
  {
    std::lock_guard lock(mutex_);
    ++noted_.refusals;
    noted_.failure = "nobody listens where it should be";
  }
  options_.news();
}

void LeaderLink::note_failure(const std::string& text) {
  {
    std::lock_guard lock(mutex_);
    noted_.failure = text;
  }
  options_.news();
}

bool LeaderLink::moved(const std::vector<std::string>& addresses) const {
  std::lock_guard lock(mutex_);
  return stop_ || addresses_ != addresses;
}

pb::Request LeaderLink::report() const {
  pb::AdminRequest request;
  *request.mutable_leader() = options_.self;
  request.mutable_leader()->set_action(pb::LEADER_REPORT);
  {
    std::lock_guard lock(mutex_);
    request.mutable_leader()->set_position(position_);
  }
  pb::Request out;
  out.set_admin(request.SerializeAsString());
  return out;
}

// Reports, until the connection is lost or the leader is another one.
void LeaderLink::talk(const std::vector<std::string>& addresses) {
  RpcClient::Options options;
  options.addresses = addresses;
  options.tls = options_.tls;
  options.kind = pb::CLIENT_TOOL;
  options.deadline = options_.silence;
  options.session.set_pid(static_cast<uint32_t>(::getpid()));
  options.session.set_version(DATACLOUD_VERSION);
  auto connected = connect_rpc(std::move(options), nullptr);
  if (!connected) return note_failure(connected.error().message());
  const auto client = std::move(connected).value();
  while (!moved(addresses)) {
    const auto answer = std::make_shared<LinkAnswer>();
    client->call(report(), [answer](result<pb::Reply> reply) {
      std::lock_guard lock(answer->mutex);
      answer->reply.emplace(std::move(reply));
      answer->arrived.notify_all();
    });
    std::unique_lock lock(answer->mutex);
    while (!answer->arrived.wait_for(lock, kLook, [&] { return answer->reply.has_value(); })) {
      if (!client->connected() || moved(addresses)) {
        lock.unlock();
        return note_failure("the connection is lost");
      }
    }
    if (!*answer->reply) return note_failure(answer->reply->error().message());
    pb::AdminReply admin;
    if (!admin.ParseFromString(answer->reply->value().admin()) || !admin.has_leader()) {
      return note_failure("it answers in a way that this version does not know");
    }
    {
      std::lock_guard noting(mutex_);
      ++noted_.answers;
      noted_.last = std::move(*admin.mutable_leader());
      noted_.failure.clear();
    }
    options_.news();
  }
}

}  // namespace datacloud
