// Lease, release, and the answers to recalls.
#include <sys/stat.h>

#include "daemon/records/namespace_ops.h"
#include "daemon/service/service.h"

namespace datacloud {

Answer MetadataService::lease(const CallPtr& call) {
  const auto& request = call->request.lease();
  TRY(auto inode, get_inode(store_.begin(), request.ino()));
  if (!pb::LeaseMode_IsValid(request.mode())) {
    return failure(Errc::invalid, "an unknown lease mode");
  }
  if (request.locks() && !locks_.delegate(call->session, request.ino())) {
    return failure(Error::posix(EAGAIN, "the file's locks are not one mount's alone"));
  }
  // Directories change at the daemon only: nobody needs more than READ.
  const auto mode =
      S_ISDIR(inode.mode()) ? std::min(request.mode(), pb::LEASE_READ) : request.mode();
  if (mode == pb::LEASE_WRITE) {
    if (auto no = forbidden(*call, Access::write)) return failure(*no);
  }
  const auto others = mode == pb::LEASE_WRITE ? pb::LEASE_NONE : pb::LEASE_READ;
  if (mode != pb::LEASE_NONE && !admitted(call, request.ino(), others)) return later();
  if (request.open() && !leases_.has_room(call->session, request.ino())) {
    return failure(Error::posix(ENFILE, "too many leases; raise daemon.leases_max"));
  }
  pb::Reply reply;
  auto* attr = reply.mutable_attr();
  *attr->mutable_inode() = std::move(inode);
  attr->set_lease(leases_.grant(call->session, request.ino(), mode, request.open()));
  return std::optional(std::move(reply));
}

Answer MetadataService::release(const CallPtr& call) {
  for (const auto& remains : call->request.release().leases()) {
    leases_.release(call->session, remains);
  }
  return std::optional(pb::Reply());
}

Answer MetadataService::recall_done(const CallPtr& call) {
  leases_.recall_done(call->session, call->request.recall_done().id());
  locks_told(call->session, call->request.recall_done());
  const bool owes =
      leases_.recalls_unanswered(call->session) > 0 || locks_.recalls_unanswered(call->session) > 0;
  session_of(*call).recalled_at = owes ? loop_.now() : MonotonicTime{};
  return std::optional(pb::Reply());
}

}  // namespace datacloud
