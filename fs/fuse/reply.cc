// Replies to the kernel.
#include "fs/fuse/reply.h"

#include <sys/stat.h>

#include <algorithm>
#include <mutex>

#include "common/base/log.h"
#include "common/base/log_limit.h"
#include "common/proto/file_time.h"
#include "fs/fuse/raw/kernel_channel.h"

namespace datacloud {

// Want of space is logged by whoever lacks it: the sites' and the daemon's refusals.
void reply_error(fuse_req_t req, const Error& error) {
  const int value = error.errno_value();
  if (value == EIO || value == ESTALE) {
    // A reader in a loop must not fill the disk with one message.
    static std::mutex mutex;
    static LogLimit limit(3, seconds(20));
    const std::string text = error.message();
    std::unique_lock lock(mutex);
    const bool pass = limit.judge(text, monotonic_now()).pass;
    lock.unlock();
    if (pass) spdlog::error("{}", text);
  }
  fuse_reply_err(req, value);
}

void reply_told(fuse_req_t req, const result<void>& outcome) {
  fuse_reply_err(req, outcome ? 0 : outcome.error().errno_value());
}

void reply_result(fuse_req_t req, const result<void>& outcome) {
  if (outcome)
    fuse_reply_err(req, 0);
  else
    reply_error(req, outcome.error());
}

// But for the owner, which stat_of() adds.
static struct stat to_stat(const pb::Inode& inode) {
  struct stat st {};
  st.st_ino = inode.ino();
  st.st_mode = inode.mode();
  st.st_nlink = inode.nlink();
  st.st_rdev = inode.rdev();
  st.st_size = static_cast<off_t>(inode.size());
  st.st_blksize = inode.policy().block_bytes();
  if (S_ISDIR(inode.mode())) st.st_size = 4096;
  if (S_ISLNK(inode.mode())) st.st_size = static_cast<off_t>(inode.symlink_target().size());
  st.st_atim = to_timespec(atime_of(inode));
  st.st_mtim = to_timespec(mtime_of(inode));
  st.st_ctim = to_timespec(ctime_of(inode));
  return st;
}

// The caller holds the inode's mutex. `used` was asked for before.
static struct stat stat_of(const Mount& mount, const Inode& inode, const FileIo::BlocksUsed& used) {
  struct stat st = to_stat(inode.attr);
  const Owner owner = mount.owners().shown({inode.attr.uid(), inode.attr.gid()});
  st.st_uid = owner.uid;
  st.st_gid = owner.gid;
  if (S_ISREG(st.st_mode)) {
    const uint64_t bytes = std::min(used.blocks * inode.block_bytes(), inode.attr.size()) +
                           used.reserved * inode.block_bytes();
    st.st_blocks = static_cast<blkcnt_t>((bytes + 511) / 512);
  }
  return st;
}

void reply_attr(fuse_req_t req, const InodePtr& inode) {
  Mount& mount = mount_of(req);
  const auto used = mount.io().blocks_used(inode);
  std::lock_guard lock(inode->mutex);
  const struct stat st = stat_of(mount, *inode, used);
  KernelChannel::tell_birth(inode->attr.btime_ns());
  fuse_reply_attr(req, &st, used.exact ? mount.cache_seconds(*inode) : 0);
}

void reply_changed(fuse_req_t req, const InodePtr& inode) {
  Mount& mount = mount_of(req);
  const auto used = mount.io().blocks_used(inode);
  std::lock_guard lock(inode->mutex);
  const struct stat st = stat_of(mount, *inode, used);
  fuse_reply_attr(req, &st, 0);
}

// With the number it names an inode also where numbers were given out again, as after records were
// restored from an older copy (ops_handles.cc). The kernel keeps 32 bits.
static uint32_t generation_of(const pb::Inode& inode) {
  const auto birth = static_cast<uint64_t>(inode.btime_ns());
  const auto folded = static_cast<uint32_t>(birth ^ birth >> 32);
  return folded != 0 ? folded : 1;
}

fuse_entry_param to_entry(Mount& mount, const InodePtr& parent, const InodePtr& inode) {
  fuse_entry_param entry{};
  entry.entry_timeout = mount.entry_cache_seconds(parent);
  const auto used = mount.io().blocks_used(inode);
  std::lock_guard lock(inode->mutex);
  const bool is_root = inode->ino == mount.root();
  entry.ino = is_root ? FUSE_ROOT_ID : inode->ino;
  entry.generation = is_root ? 0 : generation_of(inode->attr);
  entry.attr = stat_of(mount, *inode, used);
  entry.attr_timeout = used.exact ? mount.cache_seconds(*inode) : 0;
  if (entry.attr_timeout > 0) inode->named_at = monotonic_now();
  return entry;
}

uint64_t entry_changes(Inode& directory) {
  std::lock_guard lock(directory.mutex);
  return directory.entry_changes;
}

void reply_entry(fuse_req_t req, const InodePtr& parent, const InodePtr& inode) {
  Mount& mount = mount_of(req);
  mount.table().add_lookup(inode);
  const fuse_entry_param entry = to_entry(mount, parent, inode);
  if (fuse_reply_entry(req, &entry) != 0) mount.table().forget(inode->ino, 1);
}

void let_known_expire(fuse_entry_param& entry, Inode& inode) {
  std::lock_guard lock(inode.mutex);
  if (inode.lookups > 1) entry.attr_timeout = 0;
}

void reply_made(fuse_req_t req, const InodePtr& parent, const InodePtr& inode) {
  Mount& mount = mount_of(req);
  mount.table().add_lookup(inode);
  fuse_entry_param entry = to_entry(mount, parent, inode);
  let_known_expire(entry, *inode);
  if (fuse_reply_entry(req, &entry) != 0) mount.table().forget(inode->ino, 1);
}

result<InodePtr> known_inode(Mount& mount, fuse_ino_t ino) {
  mount.count_operation();
  InodePtr inode = mount.table().find(ino);
  if (inode) return inode;
  if (ino != mount.root())
    return failure(Error::posix(ESTALE, "inode " + std::to_string(ino) + " is not known here"));
  pb::Request request;
  request.mutable_lease()->set_ino(ino);
  request.mutable_lease()->set_mode(pb::LEASE_READ);
  TRY(auto answer, mount.metadata().call(std::move(request)));
  if (!answer.inode) return failure(Errc::corrupt, "the daemon sent no root inode");
  return answer.inode;
}

static bool caller_is_in_group(fuse_req_t req, uint32_t group) {
  if (fuse_req_ctx(req)->gid == group) return true;
  gid_t groups[64];
  const int count = std::min(fuse_req_getgroups(req, 64, groups), 64);
  return std::find(groups, groups + std::max(count, 0), group) != groups + std::max(count, 0);
}

// A write or truncation by a stranger to the group takes set-group-id away, also from a file its
// group may not execute: that case the kernel leaves to the file system.
result<bool> drop_set_group_id(fuse_req_t req, const InodePtr& inode) {
  pb::Request request;
  {
    std::lock_guard lock(inode->mutex);
    const uint32_t mode = inode->attr.mode();
    if (!(mode & S_ISGID) || (mode & S_IXGRP) || fuse_req_ctx(req)->uid == 0) return false;
    request.mutable_setattr()->set_mode(mode & 07777 & ~static_cast<uint32_t>(S_ISGID));
    request.mutable_setattr()->set_ino(inode->ino);
    request.mutable_setattr()->set_ctime_ns(wall_now_ns());
    // The caller's groups are those of this machine.
    const Owner shown = mount_of(req).owners().shown({inode->attr.uid(), inode->attr.gid()});
    if (caller_is_in_group(req, shown.gid)) return false;
  }
  TRY(mount_of(req).metadata().run(std::move(request)));
  return true;
}

}  // namespace datacloud
