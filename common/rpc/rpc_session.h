// The RPC of a mount: its requests change what the kernel believes, so it has to learn what became
// of those it has stopped waiting for, and whether the daemon says anything at all.
#pragma once

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
};

// As connect_rpc().
result<std::unique_ptr<RpcSession>> connect_session(RpcClient::Options, pb::HelloReply* hello);

}  // namespace datacloud
