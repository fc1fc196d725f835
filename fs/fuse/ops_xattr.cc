// Extended attributes. An inode without any (the rule) answers from its attributes: kernels before
// Linux 5.12 ask for security.capability at every write.
#include <sys/xattr.h>

#include <array>
#include <string_view>

#include "fs/fuse/ops.h"
#include "fs/fuse/reply.h"

namespace datacloud {
namespace {

constexpr std::array kPrefixes = {"user.", "trusted.", "security."};

// What the file systems of the kernel answer before they look.
int name_error(std::string_view name) {
  for (const std::string_view prefix : kPrefixes)
    if (name.starts_with(prefix)) return name.size() > prefix.size() ? 0 : EINVAL;
  return EOPNOTSUPP;  // system.posix_acl_* among them
}

// Whether the inode is known, under a lease, to have no extended attributes.
result<bool> known_empty(Mount& mount, fuse_ino_t ino) {
  TRY(auto inode, known_inode(mount, ino));
  TRY(mount.metadata().ensure_lease(inode, pb::LEASE_READ, false));
  std::lock_guard lock(inode->mutex);
  return inode->attr.xattr_count() == 0;
}

void reply_value(fuse_req_t req, const std::string& value, size_t size) {
  if (size == 0)
    fuse_reply_xattr(req, value.size());
  else if (value.size() > size)
    fuse_reply_err(req, ERANGE);
  else
    fuse_reply_buf(req, value.data(), value.size());
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char* name, size_t size) {
  auto empty = known_empty(mount_of(req), ino);
  if (!empty) return reply_error(req, empty.error());
  if (const int error = name_error(name)) return (void)fuse_reply_err(req, error);
  if (empty.value()) return (void)fuse_reply_err(req, ENODATA);
  pb::Request request;
  request.mutable_getxattr()->set_ino(ino);
  request.mutable_getxattr()->set_name(name);
  auto answer = mount_of(req).metadata().call(std::move(request));
  if (!answer) return reply_error(req, answer.error());
  reply_value(req, answer.value().reply.xattr().value(), size);
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size) {
  auto empty = known_empty(mount_of(req), ino);
  if (!empty) return reply_error(req, empty.error());
  std::string names;
  if (!empty.value()) {
    pb::Request request;
    request.mutable_listxattr()->set_ino(ino);
    auto answer = mount_of(req).metadata().call(std::move(request));
    if (!answer) return reply_error(req, answer.error());
    // As on other file systems, only root sees what only root may read.
    const bool root = fuse_req_ctx(req)->uid == 0;
    for (const auto& name : answer.value().reply.xattr().names())
      if (root || !name.starts_with("trusted.")) names += name + '\0';
  }
  reply_value(req, names, size);
}

// The number of attributes and ctime change at the daemon: the copy here is no longer true.
result<void> change(Mount& mount, fuse_ino_t ino, pb::Request request) {
  TRY(auto inode, known_inode(mount, ino));
  TRY(auto answer, mount.metadata().call(std::move(request)));
  mount.table().mark_stale(inode->ino, answer.reply.sequence(), mount.metadata().session());
  return success();
}

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char* name, const char* value, size_t size,
                 int flags) {
  pb::Request request;
  auto* set = request.mutable_setxattr();
  set->set_ino(ino);
  set->set_name(name);
  set->set_value(value, size);
  set->set_flags(static_cast<uint32_t>(flags));
  set->set_now_ns(wall_now_ns());
  reply_result(req, change(mount_of(req), ino, std::move(request)));
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char* name) {
  pb::Request request;
  auto* remove = request.mutable_removexattr();
  remove->set_ino(ino);
  remove->set_name(name);
  remove->set_now_ns(wall_now_ns());
  reply_result(req, change(mount_of(req), ino, std::move(request)));
}

}  // namespace

void add_xattr_operations(fuse_lowlevel_ops& ops) {
  ops.getxattr = op_getxattr;
  ops.listxattr = op_listxattr;
  ops.setxattr = op_setxattr;
  ops.removexattr = op_removexattr;
}

}  // namespace datacloud
