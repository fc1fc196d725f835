// Making, removing and renaming directory entries.
#include <fcntl.h>
#include <sys/stat.h>

#include <cstdio>
#include <memory>
#include <string_view>

#include "common/base/features.h"
#include "common/base/inode_flags.h"
#include "fs/fuse/ops.h"
#include "fs/fuse/ops_flags.h"
#include "fs/fuse/raw/kernel_channel.h"
#include "fs/fuse/reply.h"

namespace datacloud {
namespace {

// Whether the daemon is known to apply the umask itself: a directory with a default ACL tells that
// the cloud uses ACLs before a keepalive does.
bool daemon_applies_umask(Mount& mount, InodeId parent) {
  if (mount.features().has(Feature::posix_acl)) return true;
  const InodePtr directory = mount.table().find(parent);
  if (!directory) return false;
  std::lock_guard lock(directory->mutex);
  return directory->attr.flags() & kInodeDefaultAcl;
}

// The daemon applies the umask where there is no default ACL. Without the feature there is none,
// and a daemon from before it would not apply the umask either.
void set_mode(fuse_req_t req, pb::CreateRequest& create, mode_t mode) {
  const mode_t umask = fuse_req_ctx(req)->umask;
  if (S_ISLNK(mode)) return create.set_mode(mode);
  if (!daemon_applies_umask(mount_of(req), create.parent())) return create.set_mode(mode & ~umask);
  create.set_mode(mode);
  create.set_umask(umask);
}

// EOVERFLOW when the caller has no id in the cloud.
result<pb::Request> create_request(fuse_req_t req, fuse_ino_t parent, const char* name,
                                   mode_t mode) {
  const fuse_ctx* context = fuse_req_ctx(req);
  TRY(const auto owner, mount_of(req).owners().maker({context->uid, context->gid}));
  pb::Request request;
  auto* create = request.mutable_create();
  create->set_parent(parent);
  create->set_name(name);
  set_mode(req, *create, mode);
  create->set_uid(owner.uid);
  create->set_gid(owner.gid);
  create->set_now_ns(wall_now_ns());
  create->set_exclusive(true);
  create->set_ino(mount_of(req).inode_numbers().take());
  return request;
}

void make(fuse_req_t req, fuse_ino_t parent_ino, pb::Request request) {
  Mount& mount = mount_of(req);
  auto parent = known_inode(mount, parent_ino);
  if (!parent) return reply_error(req, parent.error());
  auto answer = mount.metadata().call(std::move(request));
  if (!answer) return reply_error(req, answer.error());
  if (!answer.value().inode) return (void)fuse_reply_err(req, EIO);
  reply_made(req, parent.value(), answer.value().inode);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t rdev) {
  auto request = create_request(req, parent, name, mode);
  if (!request) return reply_error(req, request.error());
  request.value().mutable_create()->set_rdev(rdev);
  make(req, parent, std::move(request.value()));
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) {
  auto request = create_request(req, parent, name, S_IFDIR | (mode & 07777));
  if (!request) return reply_error(req, request.error());
  make(req, parent, std::move(request.value()));
}

void op_symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) {
  auto request = create_request(req, parent, name, S_IFLNK | 0777);
  if (!request) return reply_error(req, request.error());
  request.value().mutable_create()->set_symlink_target(target);
  make(req, parent, std::move(request.value()));
}

void op_create(fuse_req_t req, fuse_ino_t parent_ino, const char* name, mode_t mode,
               fuse_file_info* fi) {
  Mount& mount = mount_of(req);
  auto parent = known_inode(mount, parent_ino);
  if (!parent) return reply_error(req, parent.error());
  auto request = create_request(req, parent_ino, name, S_IFREG | (mode & 07777));
  if (!request) return reply_error(req, request.error());
  auto* create = request.value().mutable_create();
  create->set_exclusive(fi->flags & O_EXCL);
  create->set_open(true);
  // An older daemon refuses the name.
  const bool unnamed = std::string_view(name) == KernelChannel::kUnnamed;
  create->set_unnamed(unnamed);
  auto answer = mount.metadata().call(std::move(request.value()));
  if (!answer && unnamed && answer.error().errno_value() == EINVAL)
    return (void)fuse_reply_err(req, EOPNOTSUPP);
  if (!answer) return reply_error(req, answer.error());
  const InodePtr inode = answer.value().inode;
  if (!inode) return (void)fuse_reply_err(req, EIO);
  if (auto may = may_open(inode, fi->flags & ~O_CREAT); !may) {
    mount.table().release_if_unused(inode);
    return reply_error(req, may.error());
  }
  if (fi->flags & O_TRUNC) {
    std::unique_lock lock(inode->mutex);
    const bool has_data = inode->attr.size() > 0;
    lock.unlock();
    if (has_data) {
      if (auto done = mount.io().truncate(inode, 0); !done) {
        mount.table().release_if_unused(inode);
        return reply_error(req, done.error());
      }
    }
  }
  auto handle = std::make_unique<FileHandle>();
  handle->inode = inode;
  handle->synchronous = fi->flags & (O_SYNC | O_DSYNC);
  {
    std::lock_guard lock(inode->mutex);
    ++inode->opens;
    handle->losses_seen = inode->losses;
  }
  fi->fh = reinterpret_cast<uint64_t>(handle.get());
  fi->keep_cache = 1;
  mount.table().add_lookup(inode);
  fuse_entry_param entry = to_entry(mount, parent.value(), inode);
  let_known_expire(entry, *inode);
  if (unnamed) entry.entry_timeout = 0;
  if (fuse_reply_create(req, &entry, fi) == 0) {
    (void)handle.release();
    return;
  }
  {
    std::lock_guard lock(inode->mutex);
    --inode->opens;
  }
  mount.table().forget(inode->ino, 1);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char* name) {
  pb::Request request;
  auto* link = request.mutable_link();
  link->set_ino(ino);
  link->set_parent(parent);
  link->set_name(name);
  link->set_now_ns(wall_now_ns());
  make(req, parent, std::move(request));
}

void remove(fuse_req_t req, fuse_ino_t parent, const char* name, bool directory) {
  Mount& mount = mount_of(req);
  mount.count_operation();
  pb::Request request;
  auto* unlink = request.mutable_unlink();
  unlink->set_parent(parent);
  unlink->set_name(name);
  unlink->set_directory(directory);
  unlink->set_now_ns(wall_now_ns());
  auto answer = mount.metadata().call(std::move(request));
  if (!answer) return reply_error(req, answer.error());
  if (answer.value().inode) mount.table().release_if_unused(answer.value().inode);
  fuse_reply_err(req, 0);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char* name) {
  remove(req, parent, name, false);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char* name) {
  remove(req, parent, name, true);
}

// A rename over an existing file must leave the old or the new contents after a crash, never an
// empty file: the new file's data is written first.
result<void> flush_before_replacing(Mount& mount, fuse_ino_t parent, const char* name,
                                    fuse_ino_t new_parent, const char* new_name) {
  pb::Request source;
  source.mutable_lookup()->set_parent(parent);
  source.mutable_lookup()->set_name(name);
  TRY(auto found, mount.metadata().call(std::move(source)));
  if (!found.inode) return success();
  bool dirty = false;
  {
    std::lock_guard lock(found.inode->mutex);
    dirty = !found.inode->clean();
  }
  if (dirty) {
    pb::Request target;
    target.mutable_lookup()->set_parent(new_parent);
    target.mutable_lookup()->set_name(new_name);
    auto existing = mount.metadata().call(std::move(target));
    if (existing) {
      if (existing.value().inode) mount.table().release_if_unused(existing.value().inode);
      auto flushed = mount.io().flush(found.inode, false);
      mount.table().release_if_unused(found.inode);
      return flushed;
    }
    mount.table().release_if_unused(found.inode);
    if (existing.error().errno_value() == EINTR) return failure(existing.error());
    return success();
  }
  mount.table().release_if_unused(found.inode);
  return success();
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t new_parent,
               const char* new_name, unsigned flags) {
  Mount& mount = mount_of(req);
  mount.count_operation();
  if (!mount.io().dirty_inodes().empty())
    if (auto done = flush_before_replacing(mount, parent, name, new_parent, new_name); !done)
      return reply_error(req, done.error());
  pb::Request request;
  auto* rename = request.mutable_rename();
  rename->set_parent(parent);
  rename->set_name(name);
  rename->set_new_parent(new_parent);
  rename->set_new_name(new_name);
  rename->set_flags(flags);
  rename->set_now_ns(wall_now_ns());
  if (flags & RENAME_WHITEOUT) {
    const fuse_ctx* context = fuse_req_ctx(req);
    const auto owner = mount.owners().maker({context->uid, context->gid});
    if (!owner) return reply_error(req, owner.error());
    rename->set_uid(owner.value().uid);
    rename->set_gid(owner.value().gid);
    rename->set_whiteout(mount.inode_numbers().take());
  }
  auto answer = mount.metadata().call(std::move(request));
  if (!answer) return reply_error(req, answer.error());
  for (const auto& inode : {answer.value().inode, answer.value().replaced})
    if (inode) mount.table().release_if_unused(inode);
  fuse_reply_err(req, 0);
}

void op_readlink(fuse_req_t req, fuse_ino_t ino) {
  Mount& mount = mount_of(req);
  auto inode = known_inode(mount, ino);
  if (!inode) return reply_error(req, inode.error());
  if (auto held = mount.metadata().ensure_lease(inode.value(), pb::LEASE_READ, false); !held)
    return reply_error(req, held.error());
  std::string target;
  {
    std::lock_guard lock(inode.value()->mutex);
    target = inode.value()->attr.symlink_target();
  }
  fuse_reply_readlink(req, target.c_str());
}

}  // namespace

void add_entry_operations(fuse_lowlevel_ops& ops) {
  ops.mknod = op_mknod;
  ops.mkdir = op_mkdir;
  ops.symlink = op_symlink;
  ops.create = op_create;
  ops.link = op_link;
  ops.unlink = op_unlink;
  ops.rmdir = op_rmdir;
  ops.rename = op_rename;
  ops.readlink = op_readlink;
}

}  // namespace datacloud
