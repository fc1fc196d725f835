// The kernel's side of /dev/fuse, played by a test: a socket that keeps messages apart, and a
// libfuse session that believes it to be its device.
#pragma once

#include <fuse3/fuse_lowlevel.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "fs/fuse/raw/kernel_channel.h"

namespace datacloud {

class FakeKernel {
 public:
  struct Reply {
    fuse_out_header header{};
    Bytes body;
  };

  // `user`: what operations get as the session's user data; it has channel().
  template <class User>
  FakeKernel(const fuse_lowlevel_ops& ops, User& user) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
    fd_ = ends[0];
    char name[] = "fake";
    char* argv[] = {name};
    fuse_args args = FUSE_ARGS_INIT(1, argv);
    session_ = fuse_session_new(&args, &ops, sizeof ops, &user);
    if (!session_) std::abort();
    if (KernelChannel::attach<User, &User::channel>(session_, ends[1]) != 0) std::abort();
  }
  ~FakeKernel() {
    hang_up();
    fuse_session_destroy(session_);
  }

  fuse_session* session() { return session_; }

  template <class Body>
  static Bytes message(uint32_t opcode, uint64_t unique, uint64_t node, const Body& body,
                       const std::string& name = "", uint32_t pid = 1) {
    fuse_in_header header{};
    const size_t body_bytes = std::is_empty_v<Body> ? 0 : sizeof body;
    const size_t name_bytes = name.empty() ? 0 : name.size() + 1;
    header.len = static_cast<uint32_t>(sizeof header + body_bytes + name_bytes);
    header.opcode = opcode;
    header.unique = unique;
    header.nodeid = node;
    header.pid = pid;
    Bytes out(header.len);
    std::memcpy(out.data(), &header, sizeof header);
    if (body_bytes) std::memcpy(out.data() + sizeof header, &body, body_bytes);
    if (name_bytes) std::memcpy(out.data() + sizeof header + body_bytes, name.c_str(), name_bytes);
    return out;
  }
  struct Nothing {};

  void send(const Bytes& message) {
    if (::send(fd_, message.data(), message.size(), MSG_NOSIGNAL) < 0) std::abort();
  }
  void init(uint32_t flags, uint64_t unique = 2) {
    fuse_init_in in{};
    in.major = FUSE_KERNEL_VERSION;
    in.minor = FUSE_KERNEL_MINOR_VERSION;
    in.max_readahead = 1 << 20;
    in.flags = flags;
    send(message(FUSE_INIT, unique, 0, in));
  }
  void lookup(uint64_t unique, const std::string& name, uint32_t pid = 1) {
    send(message(FUSE_LOOKUP, unique, FUSE_ROOT_ID, Nothing{}, name, pid));
  }
  void interrupt(uint64_t of) {
    fuse_interrupt_in in{.unique = of};
    send(message(FUSE_INTERRUPT, of | 1, 0, in));
  }

  // The next reply, none after `limit_ms`.
  std::optional<Reply> reply(int limit_ms = 20'000) {
    pollfd waiting{.fd = fd_, .events = POLLIN};
    if (::poll(&waiting, 1, limit_ms) <= 0) return std::nullopt;
    Bytes buffer(1 << 20);
    const ssize_t got = ::recv(fd_, buffer.data(), buffer.size(), 0);
    if (got < static_cast<ssize_t>(sizeof(fuse_out_header))) return std::nullopt;
    Reply reply;
    std::memcpy(&reply.header, buffer.data(), sizeof reply.header);
    reply.body.assign(buffer.begin() + sizeof reply.header, buffer.begin() + got);
    return reply;
  }
  // The file system is unmounted: reads fail.
  void hang_up() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_ = -1;
  fuse_session* session_ = nullptr;
};

}  // namespace datacloud
