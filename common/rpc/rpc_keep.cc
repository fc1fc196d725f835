// Keeping answered changes until they are durable, and sending them again: a part of the RPC client
// (rpc_client.h).
#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/rpc/rpc_client.h"

namespace datacloud {
namespace {

constexpr auto kSyncPause = milliseconds(100);

}  // namespace

void RpcSessionClient::count(const Pending& request) {
  if (request.held_back)
    ++held_back_;
  else if (request.change)
    unanswered_bytes_ += request.frame->size();
}

void RpcSessionClient::discount(const Pending& request) {
  if (request.held_back)
    --held_back_;
  else if (request.change)
    unanswered_bytes_ -= request.frame->size();
}

void RpcSessionClient::let_go(Pending& request) {
  discount(request);
  request.held_back = false;
  count(request);
}

void RpcSessionClient::note_committed(uint64_t sequence) {
  if (sequence <= committed_) return;
  committed_ = sequence;
  kept_.committed(sequence);
  if (held_back_ > 0 && state_ == State::up) send_held_back();
}

void RpcSessionClient::keep(uint64_t id, const Pending& request, const pb::Reply& reply) {
  if (!request.change || reply.error() != 0 || protocol_ < kProtocolRejoin) return;
  if (reply.sequence() <= committed_) return;
  // A create that has found the file would make it, sent again when others have removed it.
  if (request.may_open && (request.ino == 0 || reply.attr().inode().ino() != request.ino)) return;
  kept_.keep(id, request.frame, reply.sequence(), request.ino);
  get_room();
}

// Asks the daemon to make durable what fills the memory; now and then, should that not help.
void RpcSessionClient::get_room() {
  if (syncing_ || state_ != State::up || kept_.bytes() < keeping_.bytes_max / 2) return;
  const auto now = monotonic_now();
  if (now < sync_again_) return;
  sync_again_ = now + kSyncPause;
  syncing_ = true;
  send_sync();
}

void RpcSessionClient::send_sync() {
  pb::Frame frame;
  auto* request = frame.mutable_request();
  request->set_id(next_id_);
  request->set_acknowledged(unsettled() - 1);
  request->mutable_sync();
  auto encoded = encode_frame(frame);
  if (!encoded) return;  // it always fits
  Pending pending;
  pending.frame = encoded.value();
  pending.after_loss = AfterLoss::again;
  pending.sent = monotonic_now();
  pending.suspended = options_.suspended();
  pending.callback = [this](const result<pb::Reply>&) {
    std::lock_guard lock(mutex_);
    syncing_ = false;
    if (held_back_ > 0 && state_ == State::up) send_held_back();
  };
  Pending& added = pending_.emplace_hint(pending_.end(), next_id_++, std::move(pending))->second;
  if (state_ == State::up) added.maybe_delivered = transmit(std::move(encoded).value());
}

void RpcSessionClient::send_held_back() {
  for (auto& [id, request] : pending_) {
    if (!request.held_back) continue;
    if (!has_room()) break;
    let_go(request);
    request.maybe_delivered = transmit(request.frame);
  }
  get_room();
}

// The daemon has resumed the session, or given another that knows the requests of this one.
void RpcSessionClient::send_kept() {
  while (const SharedFrame* frame = kept_.next()) transmit(*frame);
  if (!kept_.resending()) go_up();
}

void RpcSessionClient::go_up() {
  state_ = State::up;
  const uint64_t before = next_id_;
  // The daemon lets others go on when it has this.
  if (std::exchange(mark_due_, false)) send_sync();
  for (auto& [id, request] : pending_) {
    if (id >= before) break;
    let_go(request);
    request.maybe_delivered = true;
    transmit(request.frame);
  }
}

bool RpcSessionClient::redone(pb::Reply& reply) {
  SharedFrame frame;
  {
    std::lock_guard lock(mutex_);
    if (!kept_.waits_for(reply.id())) return false;
    note_committed(reply.committed());
    const bool made = reply.error() == 0;
    frame = kept_.answered(reply.id(), made ? std::max<uint64_t>(reply.sequence(), 1) : 0);
    kept_.committed(committed_);
  }
  auto status = reply_error(reply);
  tell_redone(frame, status ? result<pb::Reply>(std::move(reply)) : failure(status.error()));
  std::lock_guard lock(mutex_);
  if (state_ == State::resending) send_kept();
  return true;
}

void RpcSessionClient::tell_redone(const SharedFrame& encoded, result<pb::Reply> reply) {
  FrameReader reader;
  pb::Frame frame;
  for (size_t at = 0; at < encoded->size();) {
    const MutableByteView space = reader.space();
    const size_t step = std::min(space.size(), encoded->size() - at);
    std::copy_n(encoded->begin() + static_cast<ptrdiff_t>(at), step, space.begin());
    reader.filled(step);
    at += step;
  }
  const auto whole = reader.next(frame);
  if (!whole || !whole.value()) return;  // it was encoded here
  if (!reply) {
    spdlog::error(
        "a change that the daemon had made, and lost when its machine failed, cannot be made "
        "again: {}",
        reply.error().message());
  }
  if (keeping_.on_redone) keeping_.on_redone(frame.request(), std::move(reply));
}

void RpcSessionClient::lose_kept(KeptRequests::Map lost, const Error& error) {
  for (const auto& [id, kept] : lost) tell_redone(kept.frame, failure(error));
}

}  // namespace datacloud
