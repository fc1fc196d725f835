// See site_local.h.
#include "common/store/remote/site_local.h"

#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "common/base/hex.h"

namespace datacloud {
namespace {

constexpr size_t kNameRandomBytes = 16;
constexpr int kSocketBytes = 1 << 20;  // of each direction

// The address's length; 0: the name does not fit.
socklen_t abstract_address(const std::string& name, sockaddr_un& out) {
  if (name.empty() || name.size() + 1 > sizeof out.sun_path) return 0;
  out = {};
  out.sun_family = AF_UNIX;
  std::copy(name.begin(), name.end(), out.sun_path + 1);
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
}

void set_sizes(int fd) {
  for (const int which : {SO_SNDBUF, SO_RCVBUF})
    (void)::setsockopt(fd, SOL_SOCKET, which, &kSocketBytes, sizeof kSocketBytes);
}

ByteView host_of(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    const auto& in = reinterpret_cast<const sockaddr_in&>(address).sin_addr;
    return {reinterpret_cast<const uint8_t*>(&in), sizeof in};
  }
  if (address.ss_family == AF_INET6) {
    const auto& in = reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
    return {reinterpret_cast<const uint8_t*>(&in), sizeof in};
  }
  return {};
}

result<void> send_ticket(int fd, const std::string& ticket, int window_fd) {
  iovec part{const_cast<char*>(ticket.data()), ticket.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof window_fd);
  std::memcpy(CMSG_DATA(header), &window_fd, sizeof window_fd);
  const ssize_t sent = ::sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent != static_cast<ssize_t>(ticket.size()))
    return failure(Error::posix(sent < 0 ? errno : EPROTO, "the site's local socket"));
  return success();
}

}  // namespace

bool is_of_this_machine(int tcp_fd) {
  sockaddr_storage here{}, there{};
  socklen_t here_bytes = sizeof here, there_bytes = sizeof there;
  if (::getsockname(tcp_fd, reinterpret_cast<sockaddr*>(&here), &here_bytes) != 0 ||
      ::getpeername(tcp_fd, reinterpret_cast<sockaddr*>(&there), &there_bytes) != 0) {
    return false;
  }
  const ByteView a = host_of(here), b = host_of(there);
  return !a.empty() && std::equal(a.begin(), a.end(), b.begin(), b.end());
}

std::optional<uid_t> peer_uid(int unix_fd) {
  ucred peer{};
  socklen_t bytes = sizeof peer;
  if (::getsockopt(unix_fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0) return std::nullopt;
  return peer.uid;
}

result<int> listen_local(std::string& name) {
  std::array<uint8_t, kNameRandomBytes> random{};
  if (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size()))
    return failure(Error::posix(errno, "getrandom"));
  name = "datacloud-site-" + to_hex(random);
  sockaddr_un address;
  const socklen_t bytes = abstract_address(name, address);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0 || ::bind(fd, reinterpret_cast<sockaddr*>(&address), bytes) != 0 ||
      ::listen(fd, SOMAXCONN) != 0) {
    const Error error = Error::posix(errno, "cannot listen on a local socket");
    if (fd >= 0) ::close(fd);
    return failure(error);
  }
  return fd;
}

result<std::optional<int>> accept_local(int listener) {
  const int fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) {
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return std::optional<int>();
    return failure(Error::posix(errno, "cannot accept"));
  }
  set_sizes(fd);
  return std::optional<int>(fd);
}

result<LocalConnection> connect_local(const pb::StoreLocal& offer, size_t window_bytes) {
  sockaddr_un address;
  const socklen_t bytes = abstract_address(offer.socket(), address);
  if (bytes == 0 || offer.ticket().size() != kTicketBytes || offer.window_bytes_max() == 0)
    return failure(Errc::invalid, "the site's offer of a local socket is none");
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return failure(Error::posix(errno, "socket"));
  auto stream = make_socket_stream(fd);
  set_sizes(fd);
  if (::connect(fd, reinterpret_cast<sockaddr*>(&address), bytes) != 0)
    return failure(Error::posix(errno, "the site's local socket"));
  if (peer_uid(fd) != offer.uid())
    return failure(Errc::invalid, "another user's process listens at the site's local socket");
  const uint64_t wanted = std::min<uint64_t>(window_bytes, offer.window_bytes_max());
  TRY(auto window, SiteWindow::make(static_cast<size_t>(wanted)));
  TRY(send_ticket(fd, offer.ticket(), window->fd()));
  return LocalConnection{std::move(stream), std::move(window)};
}

result<std::optional<ShownTicket>> receive_ticket(int fd) {
  ShownTicket shown{std::string(kTicketBytes + 1, '\0'), -1};
  iovec part{shown.ticket.data(), shown.ticket.size()};
  // For one descriptor; the kernel closes what there is no room for.
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t got = ::recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return std::optional<ShownTicket>();
  for (cmsghdr* header = got < 0 ? nullptr : CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      if (shown.fd >= 0) ::close(shown.fd);
      std::memcpy(&shown.fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
    }
  }
  if (got != static_cast<ssize_t>(kTicketBytes) || shown.fd < 0 ||
      (message.msg_flags & MSG_CTRUNC) != 0) {
    if (shown.fd >= 0) ::close(shown.fd);
    return failure(Errc::invalid, "what came is no ticket");
  }
  shown.ticket.resize(kTicketBytes);
  return std::optional(std::move(shown));
}

}  // namespace datacloud
