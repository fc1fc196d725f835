// A relay of TCP connections in this process, which can cut them, hold everything back, or cut
// after so many bytes: a network that fails, for tests.
#pragma once

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <list>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/support/tls_rig.h"

namespace datacloud {

class TcpRelay {
 public:
  explicit TcpRelay(uint16_t target) : target_(target), port_(free_port()) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    const int on = 1;
    (void)::setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    const sockaddr_in address = loopback(port_);
    (void)!::bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address);
    (void)!::listen(listener_, 16);
    thread_ = std::thread([this] { run(); });
  }
  ~TcpRelay() {
    stopping_ = true;
    thread_.join();
    ::close(listener_);
  }
  std::string address() const { return "tls://127.0.0.1:" + std::to_string(port_); }
  void hold(bool holds) { holds_ = holds; }
  void cut() { cut_ = true; }
  // Cuts once so many more bytes have gone to the target (or back).
  void cut_after(int64_t bytes, bool back = false) {
    back_ = back;
    left_ = bytes;
  }
  uint64_t connections() const { return connections_; }

 private:
  struct Pair {
    int client = -1, target = -1;
  };

  static sockaddr_in loopback(uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    return address;
  }
  static void close_with_reset(int fd) {
    const linger reset{1, 0};
    (void)::setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    ::close(fd);
  }

  void run() {
    std::list<Pair> pairs;
    std::vector<uint8_t> buffer(64 << 10);
    while (!stopping_) {
      bool moved = accept(pairs);
      if (cut_.exchange(false)) close_all(pairs);
      for (auto it = pairs.begin(); it != pairs.end() && !holds_;) {
        const int forth = move(it->client, it->target, buffer, false);
        const int back = forth < 0 ? -1 : move(it->target, it->client, buffer, true);
        moved |= forth > 0 || back > 0;
        if (forth >= 0 && back >= 0) {
          ++it;
          continue;
        }
        close_with_reset(it->client);
        close_with_reset(it->target);
        it = pairs.erase(it);
      }
      if (!moved) ::usleep(500);
    }
    close_all(pairs);
  }

  bool accept(std::list<Pair>& pairs) {
    const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK);
    if (fd < 0) return false;
    const int target = ::socket(AF_INET, SOCK_STREAM, 0);
    const sockaddr_in address = loopback(target_);
    if (::connect(target, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      ::close(target);
      close_with_reset(fd);
      return true;
    }
    ++connections_;
    pairs.push_back({fd, target});
    return true;
  }

  // Bytes moved; -1: the connection is over.
  int move(int from, int to, std::vector<uint8_t>& buffer, bool back) {
    const ssize_t got = ::recv(from, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got == 0) return -1;
    if (got < 0) return errno == EAGAIN ? 0 : -1;
    for (ssize_t sent = 0; sent < got && !stopping_;) {
      const ssize_t n = ::send(to, buffer.data() + sent, static_cast<size_t>(got - sent),
                               MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n < 0 && errno != EAGAIN) return -1;
      if (n > 0) sent += n;
    }
    if (left_ > 0 && back == back_ && (left_ -= got) <= 0) return -1;
    return static_cast<int>(got);
  }

  static void close_all(std::list<Pair>& pairs) {
    for (const auto& pair : pairs) {
      close_with_reset(pair.client);
      close_with_reset(pair.target);
    }
    pairs.clear();
  }

  const uint16_t target_, port_;
  int listener_ = -1;
  std::atomic<bool> stopping_{false}, holds_{false}, cut_{false}, back_{false};
  std::atomic<int64_t> left_{0};
  std::atomic<uint64_t> connections_{0};
  std::thread thread_;
};

}  // namespace datacloud
