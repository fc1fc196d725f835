// Connecting, hello, resuming a session and losing it: the other half of the RPC client
// (rpc_client.h). Everything here runs on the I/O thread, besides start().
#include <fmt/format.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/base/log.h"
#include "common/rpc/rpc_client.h"

namespace datacloud {
namespace {

constexpr Duration kBackoffMin = milliseconds(50);
constexpr Duration kBackoffMax = seconds(1);
// A tool's user waits for an answer: a daemon that does not listen is reported soon.
constexpr Duration kToolPatience = milliseconds(500);
// Long calls have long deadlines; hello is never one of them.
constexpr Duration kFirstHelloMax = seconds(30);

result<int> connect_unix(const std::string& address) {
  TRY(auto path, unix_socket_path(address));
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return failure(Error::posix(errno, "cannot make a socket"));
  sockaddr_un to;
  fill_unix_address(path, to);
  if (::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0) return fd;
  Error error = Error::posix(errno, address);
  ::close(fd);
  return failure(std::move(error));
}

}  // namespace

result<std::unique_ptr<RpcClient>> connect_rpc(RpcClient::Options options, pb::HelloReply* hello) {
  TRY(auto session, connect_session(std::move(options), hello));
  return std::unique_ptr<RpcClient>(std::move(session));
}

result<std::unique_ptr<RpcSession>> connect_session(RpcClient::Options options,
                                                    pb::HelloReply* hello) {
  auto client = std::make_unique<RpcSessionClient>(std::move(options));
  TRY(auto reply, client->start());
  if (hello != nullptr) *hello = std::move(reply);
  return std::unique_ptr<RpcSession>(std::move(client));
}

result<pb::HelloReply> RpcSessionClient::start() {
  if (options_.addresses.empty()) {
    return failure(Errc::invalid, "no address of the daemon is configured ([daemon] listen)");
  }
  wake_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd_ < 0) return failure(Error::posix(errno, "cannot make an event descriptor"));
  started_ = monotonic_now();
  session_ = options_.session.id();
  thread_ = std::thread([this] { run(); });
  std::unique_lock lock(mutex_);
  const Duration patience = std::min(options_.deadline, kFirstHelloMax);
  if (!first_hello_done_.wait_for(lock, patience, [&] { return first_hello_.has_value(); })) {
    return failure(unreachable());
  }
  return *first_hello_;
}

Error RpcSessionClient::unreachable() const {
  if (state_ == State::up) {
    return Error(Errc::unavailable,
                 fmt::format("the daemon did not answer within {} s",
                             std::chrono::duration<double>(options_.deadline).count()));
  }
  return Error(Errc::unavailable,
               fmt::format("cannot reach the daemon: {}; is datacloudd running?",
                           last_failure_.empty() ? options_.addresses[0] : last_failure_));
}

void RpcSessionClient::connect_now() {
  backoff_ = std::clamp(backoff_ * 2, kBackoffMin, kBackoffMax);
  retry_at_ = monotonic_now() + backoff_;
  auto fd = connect_any();
  if (fd) return adopt(fd.value());
  std::lock_guard lock(mutex_);
  last_failure_ = fd.error().message();
  const bool give_up =
      fd.error().is(Errc::invalid) ||
      (options_.kind == pb::CLIENT_TOOL && monotonic_now() - started_ >= kToolPatience);
  if (!first_hello_ && give_up) {
    first_hello_ = fd.error().is(Errc::invalid) ? fd.error() : unreachable();
    first_hello_done_.notify_all();
  }
}

result<int> RpcSessionClient::connect_any() {
  Error last;
  for (const auto& address : options_.addresses) {
    auto fd = connect_unix(address);
    if (fd) return fd;
    last = fd.error();
  }
  return failure(std::move(last));
}

pb::HelloRequest RpcSessionClient::make_hello() {
  pb::HelloRequest hello;
  hello.set_protocol(kProtocolVersion);
  hello.set_kind(options_.kind);
  *hello.mutable_session() = options_.session;
  // Tools hold nothing that is worth resuming.
  hello.mutable_session()->set_id(options_.kind == pb::CLIENT_MOUNT ? session() : 0);
  hello.set_sequence(sequence_);
  if (hello.session().id() != 0 && options_.on_resume) options_.on_resume(hello);
  return hello;
}

// Sends hello with request id 0: it belongs to the connection, not to the session.
void RpcSessionClient::adopt(int fd) {
  pb::Frame frame;
  *frame.mutable_request()->mutable_hello() = make_hello();
  auto encoded = encode_frame(frame);
  if (!encoded) {
    // A mount with more leases than fit: present none, the daemon treats them as given up.
    spdlog::warn("RPC: {} leases do not fit into hello", frame.request().hello().leases_size());
    frame.mutable_request()->mutable_hello()->clear_leases();
    encoded = encode_frame(frame);
  }
  reader_ = FrameReader();
  std::lock_guard lock(mutex_);
  fd_ = fd;
  state_ = State::hello_sent;
  out_.clear();
  hello_sent_ = monotonic_now();
  hello_suspended_ = options_.suspended();
  out_.push(std::move(encoded).value());
  out_.write_to(fd_);
}

// True: the connection stays.
bool RpcSessionClient::handle_hello(const pb::Reply& reply) {
  auto status = reply_error(reply);
  if (!status) return hello_refused(status.error());
  if (state_ != State::hello_sent || !reply.has_hello()) {
    disconnect("the daemon answered a hello that was not sent");
    return false;
  }
  const pb::HelloReply& hello = reply.hello();
  PendingMap lost;
  {
    std::lock_guard lock(mutex_);
    const bool resuming = options_.kind == pb::CLIENT_MOUNT && session_ != 0;
    if (session_lost_ || (resuming && !hello.resumed())) lost = take_lost();
    session_lost_ = false;
    if (!hello.resumed()) sequence_ = 0;  // perhaps of another history
    session_ = hello.session();
    lease_end_ = hello_sent_ + milliseconds(hello.lease_ms());
    lease_suspended_ = hello_suspended_;
  }
  backoff_ = Duration{};
  if (options_.on_session) options_.on_session(hello);
  fail(std::move(lost), Error(Errc::session_lost, "the daemon no longer knows this session"));
  std::lock_guard lock(mutex_);
  state_ = State::up;
  last_failure_.clear();
  for (auto& [id, request] : pending_) {
    out_.push(request.frame);
    request.maybe_delivered = true;
  }
  out_.write_to(fd_);
  if (!first_hello_) {
    first_hello_ = hello;
    first_hello_done_.notify_all();
  }
  return true;
}

bool RpcSessionClient::hello_refused(const Error& error) {
  {
    std::lock_guard lock(mutex_);
    // A daemon that is still starting says unavailable; anything else will not change.
    if (!first_hello_ && !error.is(Errc::unavailable) && !error.is(Errc::session_lost)) {
      first_hello_ = error.in("the daemon refused the connection");
      first_hello_done_.notify_all();
    }
    if (error.is(Errc::session_lost)) {
      session_lost_ = true;  // a new session next time
      session_ = 0;
    }
  }
  disconnect("refused: " + error.message());
  return false;
}

void RpcSessionClient::disconnect(const std::string& why) {
  PendingMap failed;
  Error error;
  {
    std::lock_guard lock(mutex_);
    ::close(fd_);
    fd_ = -1;
    state_ = State::down;
    out_.clear();
    last_failure_ = why;
    error = unreachable();
    if (options_.kind == pb::CLIENT_TOOL) failed.swap(pending_);
  }
  retry_at_ = monotonic_now() + std::max(backoff_, kBackoffMin);
  fail(std::move(failed), error);
  lose_late_answers();
}

}  // namespace datacloud
