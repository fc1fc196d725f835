// See listen.h.
#include "common/net/listen.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <system_error>

namespace datacloud {
namespace {

// -1 with errno.
int listen_on(const addrinfo& where) {
  const int fd = ::socket(where.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  const int on = 1;
  (void)::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  // So that 0.0.0.0 and [::] can both be listened on.
  if (where.ai_family == AF_INET6)
    (void)::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  if (::bind(fd, where.ai_addr, where.ai_addrlen) == 0 && ::listen(fd, SOMAXCONN) == 0) return fd;
  const int error = errno;
  ::close(fd);
  errno = error;
  return -1;
}

// With the address and what to do.
Error cannot_listen(const TlsAddress& address, int why) {
  const char* remedy = why == EADDRNOTAVAIL ? "; name an address of this machine, or 0.0.0.0"
                       : why == EADDRINUSE  ? "; another program listens there"
                                            : "";
  return Error::posix(why, "cannot listen on " + to_text(address) + ": " +
                               std::generic_category().message(why) + remedy);
}

}  // namespace

result<std::vector<int>> listen_tcp(const TlsAddress& address) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const std::string port = std::to_string(address.port);
  const int error = ::getaddrinfo(address.host.c_str(), port.c_str(), &hints, &found);
  if (error != 0) {
    return failure(Errc::invalid,
                   "cannot listen on " + to_text(address) + ": " + ::gai_strerror(error));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> list(found, ::freeaddrinfo);
  std::vector<int> out;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    const int fd = listen_on(*one);
    if (fd < 0) {
      const int why = errno;
      for (const int open : out) ::close(open);
      return failure(cannot_listen(address, why));
    }
    out.push_back(fd);
  }
  return out;
}

}  // namespace datacloud
