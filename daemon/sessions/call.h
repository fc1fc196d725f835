// A request on its way through the daemon, from its arrival to its one answer.
//
// On the service's thread. A handler answers at once, or returns later() and sees to it that the
// Responder is told, exactly once. A call whose session has ended meanwhile may be answered: nobody
// hears it.
#pragma once

#include <memory>
#include <optional>

#include "common/base/error.h"
#include "common/base/ids.h"
#include "common/proto/admin.pb.h"
#include "common/proto/rpc.pb.h"
#include "common/rpc/rpc.h"

namespace datacloud {

struct Operation;  // of the request table (daemon/service)

struct Call {
  std::shared_ptr<RpcConnection> connection;  // where it arrived
  SessionId session = 0;
  pb::Request request;
  const Operation* operation = nullptr;  // null: hello, or not known
  InodeId admitted = 0;                  // the inode whose leases it has waited for
  bool has_room = false;                 // it has waited for the journal
  bool space_known = false;              // commit: what the sites have free was asked for
  bool known_history = false;            // hello: the journal has what the mount was told of
};
using CallPtr = std::shared_ptr<Call>;

// nullopt: the call is answered later.
using Answer = result<std::optional<pb::Reply>>;
inline Answer later() { return std::optional<pb::Reply>(); }

class Responder {
 public:
  virtual ~Responder() = default;
  virtual void answer(const CallPtr&, pb::Reply) = 0;
  // When everything applied so far survives a power cut.
  virtual void answer_when_durable(const CallPtr&, pb::Reply) = 0;
  virtual void refuse(const CallPtr&, const Error&) = 0;
};

// Answers of admin.proto travel as bytes.
inline pb::Reply wrapped(const pb::AdminReply& admin) {
  pb::Reply reply;
  reply.set_admin(admin.SerializeAsString());
  return reply;
}

}  // namespace datacloud
