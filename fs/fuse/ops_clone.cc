// copy_file_range by shared blocks. Where nothing can be shared the kernel is told so
// (EOPNOTSUPP), and copies through its page cache.
//
// The kernel has written back its pages of both ranges, dropped set-user-id, and refuses what is
// not open for it; it drops the target's pages when it has the answer.
#include <algorithm>
#include <cstring>

#include "common/base/clone_ioctl.h"
#include "fs/fuse/ops.h"
#include "fs/fuse/ops_flags.h"
#include "fs/fuse/ops_shutdown.h"
#include "fs/fuse/reply.h"

namespace datacloud {
namespace {

// At most so much by one request, whose answer has 32 bits.
constexpr uint64_t kRequestBytesMax = uint64_t{1} << 31;

// So much that the next request begins with a block of the target again.
uint64_t request_bytes(uint64_t to_offset, size_t length) {
  if (length <= kRequestBytesMax) return length;
  return kRequestBytesMax - to_offset % kBlockBytesMax;
}

void op_copy_file_range(fuse_req_t req, fuse_ino_t, off_t from_offset, fuse_file_info* from,
                        fuse_ino_t, off_t to_offset, fuse_file_info* to, size_t length, int) {
  Mount& mount = mount_of(req);
  mount.count_operation();
  FileHandle &source = handle_of(from), &target = handle_of(to);
  if (from_offset < 0 || to_offset < 0) return (void)fuse_reply_err(req, EINVAL);
  if (!mount.features().has(Feature::shared_slots))
    return (void)fuse_reply_err(req, target.share_only ? EINVAL : EOPNOTSUPP);
  const auto to_at = static_cast<uint64_t>(to_offset);
  if (auto may = may_overwrite(mount, target.inode, to_at); !may)
    return reply_error(req, may.error());
  if (auto done = drop_set_group_id(req, target.inode); !done)
    return reply_error(req, done.error());
  auto copied = mount.io().copy_range(
      source, static_cast<uint64_t>(from_offset), target, to_at, request_bytes(to_at, length),
      target.share_only ? FileIo::Copying::share : FileIo::Copying::share_or_copy);
  if (!copied) return reply_error(req, copied.error());
  if (target.synchronous || mount.metadata().synchronous()) {
    if (auto synced = mount.io().fsync(target); !synced) return reply_error(req, synced.error());
  }
  fuse_reply_write(req, copied.value().bytes);
}

void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned command, void* argument, fuse_file_info* fi,
              unsigned flags, const void* in, size_t in_bytes, size_t out_bytes) {
  if (ioctl_of_shutdown(req, command, argument)) return;
  if (ioctl_of_flags(req, ino, command, in, in_bytes, out_bytes)) return;
  uint32_t on = 0;
  if ((flags & FUSE_IOCTL_DIR) || command != static_cast<unsigned>(kIoctlShareOnly) ||
      in_bytes != sizeof on)
    return (void)fuse_reply_err(req, ENOTTY);
  if (!mount_of(req).features().has(Feature::shared_slots))
    return (void)fuse_reply_err(req, EOPNOTSUPP);
  std::memcpy(&on, in, sizeof on);
  handle_of(fi).share_only = on != 0;
  fuse_reply_ioctl(req, 0, nullptr, 0);
}

}  // namespace

void add_clone_operations(fuse_lowlevel_ops& ops) {
  ops.copy_file_range = op_copy_file_range;
  ops.ioctl = op_ioctl;
}

}  // namespace datacloud
