// Reading requests of one peer (rpc_link.h).
#include "common/rpc/rpc_link.h"

#include <fmt/format.h>

#include "common/base/log.h"

namespace datacloud {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using Descriptor = asio::posix::stream_descriptor;

constexpr int kReadsPerTurnMax = 16;  // then it is the turn of others

}  // namespace

std::string PeerCredentials::describe() const {
  if (!remote()) return fmt::format("process {} (uid {})", pid, uid);
  return fmt::format("{} at {}", node.empty() ? "an invited machine" : "node " + node, address);
}

RpcLink::RpcLink(RpcLoop& loop, std::unique_ptr<ByteStream> stream, PeerCredentials peer,
                 Closed on_closed)
    : loop_(loop),
      stream_(std::move(stream)),
      waiting_(loop.io, stream_->fd()),
      patience_(loop.io),
      peer_(std::move(peer)),
      on_closed_(std::move(on_closed)) {}

RpcLink::~RpcLink() {
  if (connection_) connection_->detach();
  if (waiting_.is_open()) waiting_.release();
}

void RpcLink::start() {
  ServerConnection::Hooks hooks;
  hooks.on_service_thread = [loop = &loop_] {
    return loop->thread.load(std::memory_order_relaxed) == std::this_thread::get_id();
  };
  std::weak_ptr<RpcLink> weak = weak_from_this();
  hooks.flush_soon = [this, weak] { post_to(weak, [](RpcLink& l) { l.connection_->flush(); }); };
  hooks.flush_writable = [this, weak] { post_to(weak, [](RpcLink& l) { l.wait_writable(); }); };
  hooks.close_soon = [this, weak] { post_to(weak, [](RpcLink& l) { l.close(); }); };
  connection_ = std::make_shared<ServerConnection>(*stream_, peer_, std::move(hooks));
  read();
}

void RpcLink::expect_session_within(Duration patience, std::function<void()> told) {
  patience_.expires_after(patience);
  patience_.async_wait([weak = weak_from_this(), told = std::move(told)](error_code ec) {
    const auto self = ec ? nullptr : weak.lock();
    if (!self || !self->waiting_.is_open() || self->connection_->session != 0) return;
    told();
    self->close();
  });
}

void RpcLink::close() {
  if (!waiting_.is_open()) return;
  connection_->detach();
  waiting_.release();
  patience_.cancel();
  auto self = shared_from_this();
  on_closed_(self);
  loop_.service.on_disconnect(connection_);
}

// Called with the connection's lock held, which keeps the link alive (detach() takes that lock).
void RpcLink::post_to(std::weak_ptr<RpcLink> weak, void (*action)(RpcLink&)) {
  asio::post(loop_.io, [weak = std::move(weak), action] {
    if (auto self = weak.lock(); self && self->waiting_.is_open()) action(*self);
  });
}

void RpcLink::wait_writable() {
  waiting_.async_wait(Descriptor::wait_write, [self = shared_from_this()](error_code ec) {
    if (!ec) self->connection_->flush();
  });
}

void RpcLink::wait_readable() {
  const auto what =
      stream_->receive_waits_for_room() ? Descriptor::wait_write : Descriptor::wait_read;
  waiting_.async_wait(what, [self = shared_from_this()](error_code ec) {
    if (ec) return self->close();
    self->read();
  });
}

void RpcLink::read() {
  for (int i = 0; i < kReadsPerTurnMax; ++i) {
    if (!waiting_.is_open()) return;
    const MutableByteView space = reader_.space();
    const auto got = stream_->receive(space);
    if (got.state == ByteStream::State::broken) return close();
    if (got.state == ByteStream::State::blocked) return wait_readable();
    reader_.filled(got.bytes);
    if (!handle_frames()) return;
    if (!got.more) return wait_readable();
  }
  asio::post(loop_.io, [self = shared_from_this()] { self->read(); });
}

bool RpcLink::handle_frames() {
  for (;;) {
    if (connection_->closing()) {
      close();
      return false;
    }
    pb::Frame frame;
    auto more = reader_.next(frame);
    if (!more) return refuse(more.error().text());
    if (!more.value()) return true;
    if (!frame.has_request()) return refuse("a frame that is not a request");
    handle(std::move(*frame.mutable_request()));
  }
}

void RpcLink::handle(pb::Request request) {
  pb::Reply reply;
  reply.set_id(request.id());
  if (request.op_case() == pb::Request::OP_NOT_SET) {
    set_error(reply, Error(Errc::unsupported, "the daemon does not know this request"));
  } else if (!connection_->admit()) {
    set_error(reply, Error(Errc::unavailable, "too many unanswered requests on one connection"));
  } else {
    loop_.service.on_request(connection_, std::move(request));
    return;
  }
  connection_->reply(reply);
}

bool RpcLink::refuse(const std::string& reason) {
  if (loop_.peer_log.allow())
    spdlog::warn("RPC: {} sent {}: connection closed", peer_.describe(), reason);
  close();
  return false;
}

}  // namespace datacloud
