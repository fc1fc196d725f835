// Datagrams to the service manager (service_notifier.h).
#include "common/base/service_notifier.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace datacloud {
namespace {

std::string take_variable(const char* name) {
  const char* value = ::getenv(name);
  std::string taken = value != nullptr ? value : "";
  ::unsetenv(name);
  return taken;
}

uint64_t number(const std::string& text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? value : 0;
}

// A path, or '@' and a name in the abstract name space.
int connect_to(const std::string& address) {
  sockaddr_un name{};
  if (address.size() < 2 || address.size() >= sizeof name.sun_path ||
      (address[0] != '/' && address[0] != '@'))
    return -1;
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, address.data(), address.size());
  if (address[0] == '@') name.sun_path[0] = '\0';
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address.size());
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&name), length) == 0) return fd;
  ::close(fd);
  return -1;
}

}  // namespace

ServiceNotifier ServiceNotifier::from_environment() {
  const auto address = take_variable("NOTIFY_SOCKET");
  const auto period_us = number(take_variable("WATCHDOG_USEC"));
  const auto pid = take_variable("WATCHDOG_PID");
  const bool ours = pid.empty() || number(pid) == static_cast<uint64_t>(::getpid());
  const int fd = connect_to(address);
  const auto half =
      milliseconds(static_cast<int64_t>(std::min<uint64_t>(period_us, 1u << 31)) / 2000);
  return ServiceNotifier(fd, fd >= 0 && ours ? Duration(half) : Duration{});
}

ServiceNotifier::~ServiceNotifier() {
  if (fd_ >= 0) ::close(fd_);
}

void ServiceNotifier::ready(const std::string& status) const {
  std::string line = status;
  std::replace(line.begin(), line.end(), '\n', ' ');
  send("READY=1\nSTATUS=" + line);
}
void ServiceNotifier::stopping() const { send("STOPPING=1\nSTATUS=stopping"); }
void ServiceNotifier::alive() const { send("WATCHDOG=1"); }

void ServiceNotifier::send(const std::string& text) const {
  if (fd_ < 0) return;
  // A manager that does not read is not waited for: the next message says the same.
  (void)!::send(fd_, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

}  // namespace datacloud
