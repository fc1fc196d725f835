// Flags of files and directories: chattr(1), lsattr(1), and what +i and +a forbid (ops_flags.h).
//
// The kernel checks who may change flags, and asks for those there are before. It knows nothing of
// them otherwise, so what it would do itself for a local file system is done here: for open
// descriptors, writes, truncations and attributes. The daemon does it for names, and for all that
// reaches it.
#include "fs/fuse/ops_flags.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>

#include <cstring>

#include "common/base/features.h"
#include "common/base/inode_flags.h"
#include "fs/fuse/ops.h"
#include "fs/fuse/reply.h"

namespace datacloud {
namespace {

static_assert(kInodeImmutable == FS_IMMUTABLE_FL && kInodeAppend == FS_APPEND_FL &&
              kInodeNoDump == FS_NODUMP_FL && kInodeNoAtime == FS_NOATIME_FL);

struct Pair {
  uint32_t flag, extended;
};
constexpr Pair kPairs[] = {{kInodeImmutable, FS_XFLAG_IMMUTABLE},
                           {kInodeAppend, FS_XFLAG_APPEND},
                           {kInodeNoDump, FS_XFLAG_NODUMP},
                           {kInodeNoAtime, FS_XFLAG_NOATIME}};

Error not_permitted(const Inode& inode) {
  return Error::posix(EPERM, "inode " + std::to_string(inode.ino) + " is immutable or append-only");
}

// The caller holds the inode's mutex.
bool has(const Inode& inode, uint32_t flag) {
  return inode.attr_known && (inode.attr.flags() & flag) != 0;
}

result<uint32_t> flags_of(Mount& mount, const InodePtr& inode) {
  TRY(mount.metadata().ensure_lease(inode, pb::LEASE_READ, false));
  std::lock_guard lock(inode->mutex);
  return inode->attr.flags() & kInodeFlagsOfPrograms;
}

result<void> set_flags(Mount& mount, const InodePtr& inode, uint32_t flags) {
  if (flags & ~kInodeFlagsOfPrograms)
    return failure(Error::posix(EOPNOTSUPP, "of flags i, a, d and A are kept"));
  if (!mount.features().has(Feature::file_flags))
    return failure(Error::posix(EOPNOTSUPP, "the cloud does not use file-flags"));
  TRY(const uint32_t before, flags_of(mount, inode));
  constexpr uint32_t forbid = kInodeImmutable | kInodeAppend;
  bool stores = false;
  {
    // From here on nobody writes what the daemon would not take any more; what was written before
    // is stored first.
    std::lock_guard lock(inode->mutex);
    stores = S_ISREG(inode->attr.mode()) && (flags & forbid & ~before);
    if (stores) inode->attr.set_flags(inode->attr.flags() | (flags & forbid));
  }
  const auto set = [&]() -> result<void> {
    if (stores) {
      TRY(mount.io().flush(inode, false));
    }
    pb::Request request;
    request.mutable_setattr()->set_ino(inode->ino);
    request.mutable_setattr()->set_flags(flags);
    request.mutable_setattr()->set_ctime_ns(wall_now_ns());
    TRY(mount.metadata().call(std::move(request)));
    return success();
  };
  auto done = set();
  if (!done && stores) {
    std::lock_guard lock(inode->mutex);
    inode->attr.set_flags((inode->attr.flags() & ~kInodeFlagsOfPrograms) | before);
  }
  return done;
}

template <class Value>
void reply_value(fuse_req_t req, const Value& value, size_t room) {
  if (room < sizeof value) return (void)fuse_reply_err(req, EINVAL);
  fuse_reply_ioctl(req, 0, &value, sizeof value);
}

void get(fuse_req_t req, const InodePtr& inode, bool extended, size_t room) {
  const auto flags = flags_of(mount_of(req), inode);
  if (!flags) return reply_error(req, flags.error());
  if (!extended) return reply_value(req, flags.value(), room);
  struct fsxattr out {};
  for (const auto& pair : kPairs)
    if (flags.value() & pair.flag) out.fsx_xflags |= pair.extended;
  reply_value(req, out, room);
}

void set(fuse_req_t req, const InodePtr& inode, bool extended, const void* in, size_t in_bytes) {
  uint32_t flags = 0;
  if (extended) {
    struct fsxattr wanted {};
    if (in_bytes < sizeof wanted) return (void)fuse_reply_err(req, EINVAL);
    std::memcpy(&wanted, in, sizeof wanted);
    uint32_t left = wanted.fsx_xflags;
    for (const auto& pair : kPairs) {
      if (wanted.fsx_xflags & pair.extended) flags |= pair.flag;
      left &= ~pair.extended;
    }
    if (left != 0 || wanted.fsx_projid != 0 || wanted.fsx_extsize != 0)
      return (void)fuse_reply_err(req, EOPNOTSUPP);
  } else {
    if (in_bytes < sizeof flags) return (void)fuse_reply_err(req, EINVAL);
    std::memcpy(&flags, in, sizeof flags);
  }
  const auto done = set_flags(mount_of(req), inode, flags);
  if (!done) return reply_error(req, done.error());
  fuse_reply_ioctl(req, 0, nullptr, 0);
}

}  // namespace

bool ioctl_of_flags(fuse_req_t req, fuse_ino_t ino, unsigned command, const void* in,
                    size_t in_bytes, size_t out_bytes) {
  const bool extended = command == FS_IOC_FSGETXATTR || command == FS_IOC_FSSETXATTR;
  const bool gets = command == FS_IOC_GETFLAGS || command == FS_IOC_FSGETXATTR;
  if (!gets && command != FS_IOC_SETFLAGS && command != FS_IOC_FSSETXATTR) return false;
  const auto inode = known_inode(mount_of(req), ino);
  if (!inode)
    reply_error(req, inode.error());
  else if (gets)
    get(req, inode.value(), extended, out_bytes);
  else
    set(req, inode.value(), extended, in, in_bytes);
  return true;
}

result<void> may_open(const InodePtr& inode, int flags) {
  const bool writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0;
  if (!writes) return success();
  std::lock_guard lock(inode->mutex);
  const bool cuts = (flags & O_TRUNC) != 0 || (flags & O_APPEND) == 0;
  if (has(*inode, kInodeImmutable) || (has(*inode, kInodeAppend) && cuts))
    return failure(not_permitted(*inode));
  return success();
}

result<void> may_set_attributes(Mount& mount, const InodePtr& inode, int to_set) {
  if (!mount.features().has(Feature::file_flags)) return success();
  const bool to_a_time = (to_set & FUSE_SET_ATTR_ATIME && !(to_set & FUSE_SET_ATTR_ATIME_NOW)) ||
                         (to_set & FUSE_SET_ATTR_MTIME && !(to_set & FUSE_SET_ATTR_MTIME_NOW));
  constexpr int others =
      FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID | FUSE_SET_ATTR_SIZE;
  TRY(const uint32_t flags, flags_of(mount, inode));
  if (flags & kInodeImmutable || (flags & kInodeAppend && ((to_set & others) || to_a_time)))
    return failure(not_permitted(*inode));
  return success();
}

result<void> may_overwrite(Mount& mount, const InodePtr& inode, uint64_t offset) {
  if (!mount.features().has(Feature::file_flags)) return success();
  TRY(const uint32_t flags, flags_of(mount, inode));
  std::lock_guard lock(inode->mutex);
  if (flags & kInodeImmutable || (flags & kInodeAppend && offset < inode->attr.size()))
    return failure(not_permitted(*inode));
  return success();
}

}  // namespace datacloud
