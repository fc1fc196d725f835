// The RPC of a mount: its requests change what the kernel believes, so it has to learn what became
// of those it has stopped waiting for, and whether the daemon says anything at all.
#pragma once

#include "common/rpc/protocol_versions.h"
#include "common/rpc/rpc.h"

namespace datacloud {

class RpcSession : public RpcClient {
 public:
  using Callback = std::function<void(result<pb::Reply>)>;

  // As call(). After `callback` got `unavailable` because the deadline passed, `late` is called
  // once on the I/O thread: with the reply that came after all, or with a failure when none can
  // come any more and the request may have been executed or not. Not called when `callback` got an
  // answer, nor after the client's end.
  virtual void call_until_known(pb::Request request, Callback callback, Callback late) = 0;
  // For how long the daemon has said nothing. Keepalives have it say something at least every
  // eighth of the session lease.
  virtual Duration silence() const = 0;
  // What the daemon and this client speak (protocol_versions.h).
  virtual uint32_t protocol() const { return kProtocolOldest; }
};

// Answered changes are kept until they are durable at the daemon, and sent again after its restart
// (kept_requests.h).
struct Keeping {
  // Kept at most, in memory; more changes wait until the daemon has made earlier ones durable.
  size_t bytes_max = 32u << 20;
  // What became of a kept request that was sent again, or session_lost when it could not be. On the
  // I/O thread, must not block.
  std::function<void(const pb::Request&, result<pb::Reply>)> on_redone;
};

// As connect_rpc().
result<std::unique_ptr<RpcSession>> connect_session(RpcClient::Options, pb::HelloReply* hello,
                                                    Keeping = {});

}  // namespace datacloud
