// See privileges.h. The rules of the modes are those of setattr_should_drop_suidgid of Linux.
#include "fs/fuse/privileges.h"

#include <linux/fuse.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "fs/fuse/mount.h"
#include "fs/fuse/reply.h"

namespace datacloud {
namespace {

constexpr const char* kCapability = "security.capability";
constexpr uint32_t kSetGroupId = S_ISGID | S_IXGRP;

bool caller_is_in_group(fuse_req_t req, uint32_t group) {
  if (fuse_req_ctx(req)->gid == group) return true;
  gid_t groups[64];
  const int count = std::min(fuse_req_getgroups(req, 64, groups), 64);
  return std::find(groups, groups + std::max(count, 0), group) != groups + std::max(count, 0);
}

// Remembers until the attributes come anew that there are none: files with attributes of other
// names are not asked about at every write.
result<void> drop_capabilities(Mount& mount, const InodePtr& inode) {
  if (!mount.channel().agreed(FUSE_HANDLE_KILLPRIV_V2)) return success();
  {
    std::lock_guard lock(inode->mutex);
    if (inode->attr.xattr_count() == 0 || inode->without_capabilities) return success();
  }
  pb::Request question;
  question.mutable_getxattr()->set_ino(inode->ino);
  question.mutable_getxattr()->set_name(kCapability);
  auto found = mount.metadata().call(std::move(question));
  if (!found && found.error().errno_value() != ENODATA) return failure(found.error());
  if (!found) {
    std::lock_guard lock(inode->mutex);
    inode->without_capabilities = true;
    return success();
  }
  pb::Request request;
  auto* remove = request.mutable_removexattr();
  remove->set_ino(inode->ino);
  remove->set_name(kCapability);
  remove->set_now_ns(wall_now_ns());
  auto answer = mount.metadata().call(std::move(request));
  if (!answer && answer.error().errno_value() != ENODATA) return failure(answer.error());
  mount.xattrs().forget(inode->ino);
  mount.table().mark_stale(inode->ino, answer ? answer.value().reply.sequence() : 0,
                           mount.metadata().session());
  return success();
}

}  // namespace

result<bool> drop_privileges(fuse_req_t req, const InodePtr& inode, bool unprivileged) {
  Mount& mount = mount_of(req);
  {
    // Another mount may have set them since; the change needs this lease anyway.
    TRY(const auto use, UseGuard::acquire(mount.metadata(), inode, pb::LEASE_WRITE));
    (void)use;
  }
  TRY(drop_capabilities(mount, inode));
  pb::Request request;
  {
    std::lock_guard lock(inode->mutex);
    const uint32_t mode = inode->attr.mode();
    if (!(mode & (S_ISUID | S_ISGID)) || !S_ISREG(mode)) return false;
    uint32_t dropped = 0;
    if (unprivileged) dropped |= mode & S_ISUID;
    if (unprivileged && (mode & kSetGroupId) == kSetGroupId) dropped |= S_ISGID;
    // Of a file that its group may not execute, by strangers to the group: the kernel leaves this
    // case to the file system in any case.
    if ((mode & kSetGroupId) == S_ISGID && fuse_req_ctx(req)->uid != 0) {
      // The caller's groups are those of this machine.
      const Owner shown = mount.owners().shown({inode->attr.uid(), inode->attr.gid()});
      if (!caller_is_in_group(req, shown.gid)) dropped |= S_ISGID;
    }
    if (dropped == 0) return false;
    request.mutable_setattr()->set_mode(mode & 07777 & ~dropped);
    request.mutable_setattr()->set_ino(inode->ino);
    request.mutable_setattr()->set_ctime_ns(wall_now_ns());
  }
  TRY(mount.metadata().run(std::move(request)));
  return true;
}

result<std::optional<mode_t>> mode_without_privileges(fuse_req_t req, const InodePtr& inode,
                                                      bool owner_changes) {
  Mount& mount = mount_of(req);
  TRY(mount.metadata().ensure_lease(inode, pb::LEASE_READ, false));
  TRY(drop_capabilities(mount, inode));
  // Before root writes to a file with capabilities the kernel asks for these to go, in the same
  // words as for all of it.
  if (!owner_changes && fuse_req_ctx(req)->uid == 0) return std::optional<mode_t>();
  std::lock_guard lock(inode->mutex);
  const mode_t mode = inode->attr.mode();
  mode_t left = mode & ~static_cast<mode_t>(S_ISUID);
  if ((mode & kSetGroupId) == kSetGroupId) left &= ~static_cast<mode_t>(S_ISGID);
  if (S_ISDIR(mode) || left == mode) return std::optional<mode_t>();
  return std::optional<mode_t>(left);
}

}  // namespace datacloud
