// The ids inside POSIX ACLs, from the cloud's to this machine's and back.
#include <cerrno>
#include <string>

#include "fs/fuse/owners.h"

namespace datacloud {
namespace {

// The kernel refuses an ACL with its invalid id; this one is valid, and nobody has it.
constexpr uint32_t kNobodyHere = 0xfffffffe;

}  // namespace

std::string Owners::shown_acl(PosixAcl acl) const {
  if (maps_) {
    for (auto& entry : acl) {
      if (entry.tag == AclEntry::user)
        entry.id = maps_->users.to_local(entry.id).value_or(kNobodyHere);
      if (entry.tag == AclEntry::group)
        entry.id = maps_->groups.to_local(entry.id).value_or(kNobodyHere);
    }
  }
  return encode_acl(acl);
}

result<std::string> Owners::kept_acl(PosixAcl acl) const {
  if (maps_) {
    for (auto& entry : acl) {
      const bool user = entry.tag == AclEntry::user;
      if (!user && entry.tag != AclEntry::group) continue;
      const auto id = (user ? maps_->users : maps_->groups).to_cloud(entry.id);
      if (!id)
        return failure(Error::posix(
            EOVERFLOW, "an ACL names local " + std::string(user ? "uid " : "gid ") +
                           std::to_string(entry.id) + ", which the cloud has no name for"));
      entry.id = *id;
    }
  }
  return encode_acl(acl);
}

}  // namespace datacloud
