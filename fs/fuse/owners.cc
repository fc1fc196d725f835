// What owners are shown as, and what creating and chown mean in the cloud.
#include "fs/fuse/owners.h"

#include <cerrno>
#include <string>

namespace datacloud {
namespace {

Error no_id_in_cloud(const char* kind, uint32_t local) {
  return Error::posix(EOVERFLOW, "local " + std::string(kind) + " " + std::to_string(local) +
                                     " has no line in the file of -o uidmap");
}

}  // namespace

Owners Owners::squashed_to(Owner owner) {
  Owners out;
  out.squash_ = owner;
  return out;
}

Owner Owners::shown(Owner cloud) const {
  if (!maps_) return cloud;
  return {maps_->users.to_local(cloud.uid).value_or(kNoId),
          maps_->groups.to_local(cloud.gid).value_or(kNoId)};
}

result<Owner> Owners::maker(Owner local) const {
  if (squash_) return *squash_;
  if (!maps_) return local;
  const auto uid = maps_->users.to_cloud(local.uid);
  if (!uid) return failure(no_id_in_cloud("uid", local.uid));
  const auto gid = maps_->groups.to_cloud(local.gid);
  if (!gid) return failure(no_id_in_cloud("gid", local.gid));
  return Owner{*uid, *gid};
}

// As a server of NFS answers with all_squash: the user is not root there, so an owner may give a
// file to its own group and nobody may do more.
result<OwnerChange> Owners::change(const OwnerChange& local, Owner now) const {
  if (squash_) {
    OwnerChange left;
    if (local.uid && *local.uid != now.uid)
      return failure(Error::posix(EPERM, "chown with -o squash"));
    if (local.gid && *local.gid != now.gid) {
      if (now.uid != squash_->uid || *local.gid != squash_->gid)
        return failure(Error::posix(EPERM, "chgrp with -o squash"));
      left.gid = local.gid;
    }
    return left;
  }
  if (!maps_) return local;
  OwnerChange cloud;
  if (local.uid) {
    cloud.uid = maps_->users.to_cloud(*local.uid);
    if (!cloud.uid) return failure(no_id_in_cloud("uid", *local.uid));
  }
  if (local.gid) {
    cloud.gid = maps_->groups.to_cloud(*local.gid);
    if (!cloud.gid) return failure(no_id_in_cloud("gid", *local.gid));
  }
  return cloud;
}

}  // namespace datacloud
