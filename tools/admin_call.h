// Requests of admin.proto over a command's connection.
#pragma once

#include "common/proto/admin.pb.h"
#include "tools/daemon_link.h"

namespace datacloud {

inline result<pb::AdminReply> call_admin(DaemonLink& link, const pb::AdminRequest& request) {
  pb::Request wrapped;
  wrapped.set_admin(request.SerializeAsString());
  TRY(const auto reply, link.call(std::move(wrapped)));
  pb::AdminReply admin;
  if (admin.ParseFromString(reply.admin())) return admin;
  return failure(Errc::corrupt,
                 "the daemon's answer does not parse; install the same version on "
                 "both sides");
}

}  // namespace datacloud
