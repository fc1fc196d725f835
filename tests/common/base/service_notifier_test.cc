// The messages systemd gets, on a socket of ours; and silence when nobody asked.
#include "common/base/service_notifier.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <string>

namespace datacloud {
namespace {

class Manager {
 public:
  Manager() : fd_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
    address_ = "@datacloud-notifier-test-" + std::to_string(::getpid());
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    std::memcpy(name.sun_path + 1, address_.data() + 1, address_.size() - 1);
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address_.size());
    EXPECT_EQ(::bind(fd_, reinterpret_cast<sockaddr*>(&name), length), 0);
    ::setenv("NOTIFY_SOCKET", address_.c_str(), 1);
  }
  ~Manager() { ::close(fd_); }
  std::string next() {
    char text[512];
    const ssize_t n = ::recv(fd_, text, sizeof text, 0);
    return n < 0 ? "" : std::string(text, static_cast<size_t>(n));
  }

 private:
  int fd_;
  std::string address_;
};

TEST(ServiceNotifier, TellsReadinessLifeAndTheEnd) {
  Manager manager;
  ::setenv("WATCHDOG_USEC", "60000000", 1);
  ::setenv("WATCHDOG_PID", std::to_string(::getpid()).c_str(), 1);
  const auto notifier = ServiceNotifier::from_environment();
  EXPECT_EQ(notifier.watchdog_interval(), seconds(30));
  notifier.ready("5 of 5\nsites");
  EXPECT_EQ(manager.next(), "READY=1\nSTATUS=5 of 5 sites");
  notifier.alive();
  EXPECT_EQ(manager.next(), "WATCHDOG=1");
  notifier.stopping();
  EXPECT_TRUE(manager.next().starts_with("STOPPING=1"));
  EXPECT_EQ(::getenv("NOTIFY_SOCKET"), nullptr) << "children must not speak for us";
  EXPECT_EQ(::getenv("WATCHDOG_USEC"), nullptr);
}

TEST(ServiceNotifier, AnotherProcessesWatchdogIsNotOurs) {
  Manager manager;
  ::setenv("WATCHDOG_USEC", "1000000", 1);
  ::setenv("WATCHDOG_PID", "1", 1);
  EXPECT_EQ(ServiceNotifier::from_environment().watchdog_interval(), Duration{});
}

TEST(ServiceNotifier, SilentWhenNobodyOrNonsenseAsks) {
  ::unsetenv("NOTIFY_SOCKET");
  ::setenv("WATCHDOG_USEC", "1000000", 1);
  ::unsetenv("WATCHDOG_PID");
  const auto nobody = ServiceNotifier::from_environment();
  EXPECT_EQ(nobody.watchdog_interval(), Duration{});
  nobody.ready("x");
  for (const char* address : {"", "@", "/", "relative", "/does/not/exist"}) {
    ::setenv("NOTIFY_SOCKET", address, 1);
    ServiceNotifier::from_environment().ready("x");
  }
  ::setenv("NOTIFY_SOCKET", std::string(5000, '/').c_str(), 1);
  ServiceNotifier::from_environment().ready("x");
}

TEST(ServiceNotifier, AManagerThatDoesNotReadIsNotWaitedFor) {
  Manager manager;
  const auto notifier = ServiceNotifier::from_environment();
  for (int i = 0; i < 100'000; i++) notifier.alive();
  EXPECT_EQ(manager.next(), "WATCHDOG=1");
}

}  // namespace
}  // namespace datacloud
