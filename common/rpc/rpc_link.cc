// Moving the bytes of one peer (rpc_link.h).
#include "common/rpc/rpc_link.h"

#include <fmt/format.h>

#include "common/base/log.h"

namespace datacloud {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using Descriptor = asio::posix::stream_descriptor;

constexpr int kReadsPerTurnMax = 16;             // then it is the turn of others
constexpr size_t kEncodedBytesMax = 256u << 10;  // more are encoded when these have left
constexpr size_t kSentPerTurnMax = 4u << 20;

}  // namespace

std::string PeerCredentials::describe() const {
  if (!remote()) return fmt::format("process {} (uid {})", pid, uid);
  return fmt::format("{} at {}", node.empty() ? "an invited machine" : "node " + node, address);
}

std::string client_of(const PeerCredentials& peer) {
  if (!peer.remote()) return fmt::format("process {}", peer.pid);
  return peer.node.empty() ? peer.address : "node " + peer.node;
}

RpcLink::RpcLink(RpcLoop& loop, RpcTurns& turns, RpcThread& thread,
                 std::unique_ptr<ByteStream> stream, PeerCredentials peer, Closed on_closed)
    : loop_(loop),
      turns_(turns),
      thread_(thread),
      output_(std::make_shared<RpcOutput>(std::move(stream))),
      waiting_(thread.io),
      stalled_(thread.io),
      unsent_(thread.io),
      peer_(std::move(peer)),
      on_closed_(std::move(on_closed)) {}

RpcLink::~RpcLink() { abandon(); }

void RpcLink::abandon() {
  if (connection_) connection_->detach();
  if (waiting_.is_open()) waiting_.release();
}

void RpcLink::start() {
  ServerConnection::Hooks hooks;
  const std::weak_ptr<RpcLink> weak = weak_from_this();
  const auto post = [&io = thread_.io(), weak](void (*action)(RpcLink&)) {
    return [&io, weak, action] {
      asio::post(io, [weak, action] {
        if (const auto self = weak.lock(); self && self->waiting_.is_open()) action(*self);
      });
    };
  };
  // Called with the connection's lock held, which keeps the thread alive (abandon takes that lock).
  hooks.send_soon = post([](RpcLink& link) { link.send(); });
  hooks.close_soon = post([](RpcLink& link) { link.finish(); });
  // What is encrypted is sent by the connection's own thread: the service has no time for that.
  if (!peer_.remote()) hooks.output = output_;
  connection_ = std::make_shared<ServerConnection>(peer_, std::move(hooks));
  source_ = turns_.open(client_of(peer_), connection_, post([](RpcLink& link) { link.resume(); }));
  asio::post(thread_.io(), [self = shared_from_this()] {
    error_code failed;
    self->waiting_.assign(self->output_->stream->fd(), failed);
    if (failed) return self->close();
    self->read();
    self->send();  // what was queued before there was somebody to send it
  });
}

void RpcLink::close() {
  if (!source_) return;
  connection_->detach();
  error_code ignored;
  stalled_.cancel(ignored);
  unsent_.cancel(ignored);
  if (waiting_.is_open()) waiting_.release();
  turns_.close(source_);
  source_.reset();
  asio::post(loop_.io, [self = shared_from_this()] { self->on_closed_(self); });
}

void RpcLink::finish() {
  send();
  close();
}

// --- out
// ------------------------------------------------------------------------------------------

void RpcLink::send() {
  if (sending_later_ || !waiting_.is_open()) return;
  std::unique_lock lock(output_->mutex);
  FrameWriter& out = output_->out;
  for (size_t turn = 0; turn < kSentPerTurnMax;) {
    std::unique_ptr<pb::Frame> frame;
    while (out.bytes() < kEncodedBytesMax && (frame = connection_->next())) {
      auto encoded = encode_frame(*frame);
      if (encoded) out.push(std::move(encoded).value());
    }
    const size_t before = out.bytes();
    const auto state = out.write_to(*output_->stream);
    connection_->sent(before - out.bytes());
    turn += before - out.bytes();
    left_ += before - out.bytes();
    switch (state) {
      case FrameWriter::State::empty:
        if (!frame && before < kEncodedBytesMax) return;  // next() gave none
        continue;
      case FrameWriter::State::blocked:
        lock.unlock();
        return wait_writable();
      case FrameWriter::State::broken:
        lock.unlock();
        return close();
    }
  }
  asio::post(thread_.io(), [self = shared_from_this()] { self->send(); });
}

// What waits for a peer that takes nothing holds memory, and perhaps a view of old records.
void RpcLink::watch_sending() {
  watching_sending_ = true;
  left_before_ = left_;
  unsent_.expires_after(loop_.stall_max);
  unsent_.async_wait([weak = weak_from_this()](error_code ec) {
    const auto self = ec ? nullptr : weak.lock();
    if (!self || !self->waiting_.is_open()) return;
    self->watching_sending_ = false;
    if (!self->sending_later_) return;
    if (self->left_ != self->left_before_) return self->watch_sending();
    self->loop_.refusals->count(Refusal::slow);
    if (self->loop_.peer_log.allow())
      spdlog::warn("RPC: {} does not read its replies: connection closed", self->peer_.describe());
    self->close();
  });
}

void RpcLink::wait_writable() {
  sending_later_ = true;
  if (!watching_sending_) watch_sending();
  waiting_.async_wait(Descriptor::wait_write, [self = shared_from_this()](error_code ec) {
    self->sending_later_ = false;
    if (!ec) self->send();
  });
}

// --- in
// -------------------------------------------------------------------------------------------

void RpcLink::wait_readable() {
  if (reader_.in_frame() && !watching_) watch();
  const auto what =
      output_->stream->receive_waits_for_room() ? Descriptor::wait_write : Descriptor::wait_read;
  waiting_.async_wait(what, [self = shared_from_this()](error_code ec) {
    if (!ec) return self->read();
    if (self->waiting_.is_open()) self->close();
  });
}

// Whoever begins a request sends the rest of it.
void RpcLink::watch() {
  watching_ = true;
  received_before_ = received_;
  frames_before_ = frames_;
  stalled_.expires_after(loop_.stall_max);
  stalled_.async_wait([weak = weak_from_this()](error_code ec) {
    const auto self = ec ? nullptr : weak.lock();
    if (!self || !self->waiting_.is_open()) return;
    self->watching_ = false;
    if (self->paused_ || !self->reader_.in_frame()) return;
    if (self->frames_ != self->frames_before_ ||
        self->received_ - self->received_before_ >= kStallBytesMin) {
      return self->watch();
    }
    self->loop_.refusals->count(Refusal::slow);
    self->refuse("the beginning of a request and not the rest");
  });
}

void RpcLink::read() {
  for (int i = 0; i < kReadsPerTurnMax; ++i) {
    if (!waiting_.is_open()) return;
    const MutableByteView space = reader_.space();
    const auto got = output_->stream->receive(space);
    if (got.state == ByteStream::State::broken) return close();
    if (got.state == ByteStream::State::blocked) return wait_readable();
    reader_.filled(got.bytes);
    received_ += got.bytes;
    if (!handle_frames()) return;
    if (!got.more) return wait_readable();
  }
  asio::post(thread_.io(), [self = shared_from_this()] { self->read(); });
}

void RpcLink::resume() {
  if (!std::exchange(paused_, false)) return;
  if (handle_frames()) read();
}

bool RpcLink::handle_frames() {
  for (;;) {
    if (connection_->closing()) {
      finish();
      return false;
    }
    pb::Frame frame;
    auto more = reader_.next(frame);
    if (!more) return refuse(more.error().text());
    if (!more.value()) return true;
    ++frames_;
    if (!frame.has_request()) return refuse("a frame that is not a request");
    if (!handle(std::move(*frame.mutable_request()))) return false;
  }
}

bool RpcLink::handle(pb::Request request) {
  pb::Reply reply;
  reply.set_id(request.id());
  if (request.op_case() == pb::Request::OP_NOT_SET) {
    set_error(reply, Error(Errc::unsupported, "the daemon does not know this request"));
  } else if (!connection_->admit()) {
    set_error(reply, Error(Errc::unavailable, "too many unanswered requests on one connection"));
  } else {
    paused_ = !turns_.add(source_, std::move(request), reader_.frame_bytes());
    return !paused_;
  }
  connection_->reply(std::move(reply));
  return true;
}

bool RpcLink::refuse(const std::string& reason) {
  if (loop_.peer_log.allow())
    spdlog::warn("RPC: {} sent {}: connection closed", peer_.describe(), reason);
  close();
  return false;
}

}  // namespace datacloud
