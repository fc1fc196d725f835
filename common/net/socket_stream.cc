// A stream that is a socket and nothing more (byte_stream.h).
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "common/net/byte_stream.h"

namespace datacloud {
namespace {

class SocketStream final : public ByteStream {
 public:
  explicit SocketStream(int fd) : fd_(fd) {}
  ~SocketStream() override { ::close(fd_); }
  int fd() const override { return fd_; }

  Received receive(MutableByteView space) override {
    const ssize_t got = ::recv(fd_, space.data(), space.size(), MSG_DONTWAIT);
    if (got > 0)
      return {State::done, static_cast<size_t>(got), static_cast<size_t>(got) == space.size()};
    const bool later = got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
    return {later ? State::blocked : State::broken, 0, false};
  }

  Sent send(std::span<const iovec> parts) override {
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(parts.data());
    message.msg_iovlen = parts.size();
    for (;;) {
      const ssize_t sent = ::sendmsg(fd_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent >= 0) return {State::done, static_cast<size_t>(sent)};
      if (errno == EINTR) continue;
      return {errno == EAGAIN || errno == EWOULDBLOCK ? State::blocked : State::broken, 0};
    }
  }

 private:
  const int fd_;
};

}  // namespace

std::unique_ptr<ByteStream> make_socket_stream(int fd) {
  return std::make_unique<SocketStream>(fd);
}

}  // namespace datacloud
