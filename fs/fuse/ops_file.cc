// Open files.
#include <fcntl.h>
#include <unistd.h>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>

#include "common/base/features.h"
#include "fs/base/interruption.h"
#include "fs/fuse/ops.h"
#include "fs/fuse/ops_flags.h"
#include "fs/fuse/raw/caller.h"
#include "fs/fuse/raw/request_loop.h"
#include "fs/fuse/reply.h"

namespace datacloud {
namespace {

void op_open(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  Mount& mount = mount_of(req);
  auto inode = known_inode(mount, ino);
  if (!inode) return reply_error(req, inode.error());
  auto handle = std::make_unique<FileHandle>();
  handle->inode = inode.value();
  handle->synchronous = fi->flags & (O_SYNC | O_DSYNC);
  {
    std::lock_guard lock(inode.value()->mutex);
    ++inode.value()->opens;  // before the lease: a recall then leaves the registration alone
    handle->losses_seen = inode.value()->losses;
  }
  const bool reads = (fi->flags & O_ACCMODE) != O_WRONLY && (fi->flags & O_TRUNC) == 0;
  std::function<void()> behind;
  if (reads) behind = [&mount, &inode] { mount.io().expect_read(inode.value()); };
  auto opened = mount.metadata().ensure_lease(inode.value(), pb::LEASE_READ, true, behind);
  if (opened) opened = may_open(inode.value(), fi->flags);
  if (opened && (fi->flags & O_TRUNC)) opened = mount.io().truncate(inode.value(), 0);
  if (opened) {
    fi->fh = reinterpret_cast<uint64_t>(handle.get());
    fi->keep_cache = 1;  // the kernel is told when its pages are no longer true
    const bool accesses = reads && !(fi->flags & O_NOATIME);
    if (fuse_reply_open(req, fi) == 0) {
      (void)handle.release();
      if (accesses) mount.note_access(inode.value());
      return;
    }
  } else {
    reply_error(req, opened.error());
  }
  {
    std::lock_guard lock(inode.value()->mutex);
    --inode.value()->opens;
  }
  mount.table().release_if_unused(inode.value());
}

void op_release(fuse_req_t req, fuse_ino_t, fuse_file_info* fi) {
  Mount& mount = mount_of(req);
  std::unique_ptr<FileHandle> handle(&handle_of(fi));
  const InodePtr inode = handle->inode;
  mount.locks().release(inode->ino, handle->locks);
  {
    std::lock_guard lock(inode->mutex);
    --inode->opens;
    if (!inode->clean()) inode->closed_at = monotonic_now();
  }
  // Recalled while it was open, perhaps because another mount unlinked it: the daemon waits for
  // the last close.
  mount.table().release_open_mark(inode);
  mount.table().release_if_unused(inode);
  fuse_reply_err(req, 0);
}

void op_read(fuse_req_t req, fuse_ino_t, size_t size, off_t offset, fuse_file_info* fi) {
  Mount& mount = mount_of(req);
  mount.count_operation();
  FileHandle& handle = handle_of(fi);
  if (handle.locks.lost) return (void)fuse_reply_err(req, EIO);
  auto pieces = mount.io().read(handle, static_cast<uint64_t>(offset), size);
  if (!pieces) return reply_error(req, pieces.error());
  std::vector<iovec> parts;
  parts.reserve(pieces.value().views.size());
  for (const auto& view : pieces.value().views)
    parts.push_back({const_cast<uint8_t*>(view.data()), view.size()});
  fuse_reply_iov(req, parts.data(), static_cast<int>(parts.size()));
}

void op_write(fuse_req_t req, fuse_ino_t, const char* data, size_t size, off_t offset,
              fuse_file_info* fi) {
  Mount& mount = mount_of(req);
  mount.count_operation();
  if (size == 0) return (void)fuse_reply_write(req, 0);
  // Pages that the kernel writes back were changed before the lock was lost.
  if (handle_of(fi).locks.lost && !fi->writepage) return (void)fuse_reply_err(req, EIO);
  const InodePtr inode = handle_of(fi).inode;
  const ByteView bytes(reinterpret_cast<const uint8_t*>(data), size);
  const bool appends = (fi->flags & O_APPEND) && !fi->writepage;
  if (auto done = drop_set_group_id(req, inode); !done) return reply_error(req, done.error());
  // Where the kernel writes back its pages it has put the bytes where they belong.
  const auto origin = fi->writepage ? FileIo::Origin::pages : FileIo::Origin::program;
  auto at = mount.io().write(inode, static_cast<uint64_t>(offset), bytes, appends, origin);
  if (!at) return reply_error(req, at.error());
  // A page that the kernel writes back stays as it is; what went past its pages makes them old.
  if ((fi->flags & O_DIRECT) && !fi->writepage) {
    const auto use = std::make_shared<FileIo::Written>(std::move(at.value()));
    mount.invalidator().drop(inode->ino, use->offset, size,
                             [req, size, use] { fuse_reply_write(req, size); });
    return;
  }
  fuse_reply_write(req, size);
  // The kernel put the bytes where it believed the end of the file to be.
  if (at.value().offset != static_cast<uint64_t>(offset))
    mount.later([&mount, inode] { mount.kernel().forget_pages_and_attributes(inode->ino); });
}

// close(2) gives up the locks of its process; the next who asks, on whatever mount, gets them.
struct LocksGone {
  std::mutex mutex;
  std::condition_variable_any changed;
  bool done = true;
};

std::shared_ptr<LocksGone> drop_locks(Mount& mount, FileHandle& handle, uint64_t owner) {
  auto gone = std::make_shared<LocksGone>();
  if (!mount.locks_shared()) return gone;
  gone->done = false;
  const auto dropping =
      mount.locks().flush(handle.inode->ino, handle.locks, owner, [gone](result<void>) {
        std::lock_guard lock(gone->mutex);
        gone->done = true;
        gone->changed.notify_all();
      });
  if (!dropping) gone->done = true;
  return gone;
}

// They go also when nobody waits for that.
void wait_for_locks(LocksGone& gone) {
  std::unique_lock lock(gone.mutex);
  (void)wait_interruptibly(gone.changed, lock, [&] { return gone.done; });
}

void op_flush(fuse_req_t req, fuse_ino_t, fuse_file_info* fi) {
  Mount& mount = mount_of(req);
  mount.count_operation();
  FileHandle& handle = handle_of(fi);
  const auto gone = drop_locks(mount, handle, fi->lock_owner);
  // Nobody hears what becomes of the files of a program that was killed: it need not wait. While it
  // exits no signal reaches it, so no INTERRUPT would come.
  const auto killed = [caller = fuse_req_ctx(req)->pid] { return is_dying(caller); };
  if (!RequestLoop::this_thread_may_wait()) {
    std::unique_lock lock(handle.inode->mutex);
    const bool clean = handle.inode->clean();
    lock.unlock();
    if (!clean && killed()) return (void)fuse_reply_err(req, 0);
  }
  // The kernel keeps the handle until it has the reply.
  RequestLoop::may_wait(
      [&mount, req, killed, &handle, gone] {
        wait_for_locks(*gone);
        reply_told(req, mount.io().close(handle, killed));
      },
      [req](const Error& error) { reply_error(req, error); });
}

void op_fsync(fuse_req_t req, fuse_ino_t, int, fuse_file_info* fi) {
  Mount& mount = mount_of(req);
  mount.count_operation();
  reply_told(req, mount.io().fsync(handle_of(fi)));
}

void op_lseek(fuse_req_t req, fuse_ino_t, off_t offset, int whence, fuse_file_info* fi) {
  if (whence != SEEK_DATA && whence != SEEK_HOLE) return (void)fuse_reply_err(req, EINVAL);
  if (offset < 0) return (void)fuse_reply_err(req, ENXIO);
  auto found = mount_of(req).io().seek(handle_of(fi).inode, static_cast<uint64_t>(offset),
                                       whence == SEEK_DATA);
  if (!found) return reply_error(req, found.error());
  fuse_reply_lseek(req, static_cast<off_t>(found.value()));
}

void op_fallocate(fuse_req_t req, fuse_ino_t, int mode, off_t offset, off_t length,
                  fuse_file_info* fi) {
  using What = FileIo::Allocation::What;
  Mount& mount = mount_of(req);
  mount.count_operation();
  FileHandle& handle = handle_of(fi);
  constexpr int kKnown = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
  const bool punches = mode & FALLOC_FL_PUNCH_HOLE, zeroes = mode & FALLOC_FL_ZERO_RANGE;
  if ((mode & ~kKnown) || (punches && zeroes) || (punches && !(mode & FALLOC_FL_KEEP_SIZE)) ||
      !mount.features().has(Feature::reservations))
    return (void)fuse_reply_err(req, EOPNOTSUPP);
  if (offset < 0 || length <= 0) return (void)fuse_reply_err(req, EINVAL);
  if (handle.locks.lost) return (void)fuse_reply_err(req, EIO);
  FileIo::Allocation asked;
  asked.what = punches ? What::punch : zeroes ? What::zero : What::reserve;
  asked.offset = static_cast<uint64_t>(offset);
  asked.length = static_cast<uint64_t>(length);
  asked.keep_size = mode & FALLOC_FL_KEEP_SIZE;
  // Reserving changes nothing that +a keeps.
  const uint64_t changes_from = asked.what == What::reserve ? UINT64_MAX : 0;
  if (auto may = may_overwrite(mount, handle.inode, changes_from); !may)
    return reply_error(req, may.error());
  if (auto done = drop_set_group_id(req, handle.inode); !done)
    return reply_error(req, done.error());
  auto done = mount.io().allocate(handle.inode, asked);
  if (done && (handle.synchronous || mount.metadata().synchronous()))
    done = mount.io().fsync(handle);
  reply_result(req, done);
}

}  // namespace

void add_file_operations(fuse_lowlevel_ops& ops) {
  ops.open = op_open;
  ops.release = op_release;
  ops.read = op_read;
  ops.write = op_write;
  ops.flush = op_flush;
  ops.fsync = op_fsync;
  ops.lseek = op_lseek;
  ops.fallocate = op_fallocate;
}

}  // namespace datacloud
