// Lease, release, and the answers to recalls.
#include <sys/stat.h>

#include <algorithm>

#include "common/proto/file_time.h"
#include "daemon/records/namespace_ops.h"
#include "daemon/service/service.h"

namespace datacloud {
namespace {

constexpr uint64_t kShownBytesMax = uint64_t{1} << 60;

}  // namespace

// The writer itself knows better, and is not to wait behind those who want its lease.
bool MetadataService::show_unwritten(const Call& call, pb::Inode& inode) const {
  const auto there = leases_.unwritten(inode.ino());
  if (there.attributes == nullptr) return false;
  if (there.session == call.session) return true;
  inode.set_size(there.attributes->size());
  inode.set_blocks_mapped(there.attributes->blocks_mapped());
  set_mtime(inode, mtime_of(*there.attributes));
  set_ctime(inode, std::max(ctime_of(inode), ctime_of(*there.attributes)));
  return true;
}

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
  auto mode = S_ISDIR(inode.mode()) ? std::min(request.mode(), pb::LEASE_READ) : request.mode();
  if (mode == pb::LEASE_WRITE) {
    if (auto no = forbidden(*call, Access::write)) return failure(*no);
  }
  const auto others = mode == pb::LEASE_WRITE ? pb::LEASE_NONE : pb::LEASE_READ;
  const bool attributes = mode == pb::LEASE_READ && request.attributes();
  const auto wants = attributes ? LeaseTable::Wants::attributes : LeaseTable::Wants::lease;
  if (attributes && show_unwritten(*call, inode)) mode = pb::LEASE_NONE;
  if (mode != pb::LEASE_NONE && !admitted(call, request.ino(), others, wants)) return later();
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

// Only what stat(2) shows of a file being written.
result<pb::Inode> MetadataService::checked_unwritten(const pb::Inode& sent) const {
  TRY(check_sent_time(sent.has_mtime(), sent.mtime(), sent.mtime_ns() != 0, time_range()));
  TRY(check_sent_time(sent.has_ctime(), sent.ctime(), sent.ctime_ns() != 0, time_range()));
  pb::Inode told;
  told.set_size(std::min(sent.size(), kShownBytesMax));
  told.set_blocks_mapped(std::min(sent.blocks_mapped(), kShownBytesMax / kBlockBytesMin));
  set_mtime(told, mtime_of(sent));
  set_ctime(told, ctime_of(sent));
  return told;
}

Answer MetadataService::recall_done(const CallPtr& call) {
  const auto& request = call->request.recall_done();
  if (request.has_unwritten()) {
    TRY(auto told, checked_unwritten(request.unwritten()));
    leases_.put_off(call->session, request.id(), std::move(told));
    session_of(*call).recalled_at = loop_.now();  // it works on it
    return std::optional(pb::Reply());
  }
  leases_.recall_done(call->session, request.id());
  locks_told(call->session, request);
  const bool owes =
      leases_.recalls_unanswered(call->session) > 0 || locks_.recalls_unanswered(call->session) > 0;
  session_of(*call).recalled_at = owes ? loop_.now() : MonotonicTime{};
  return std::optional(pb::Reply());
}

}  // namespace datacloud
