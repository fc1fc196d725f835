// FUSE notifications, the epoch one included, which libfuse 3.14 does not know.
#include "fs/fuse/kernel_notifier.h"

#include <linux/fuse.h>
#include <unistd.h>

#include <cerrno>

namespace datacloud {
namespace {

constexpr int kNotifyIncEpoch = 8;  // FUSE_NOTIFY_INC_EPOCH, protocol 7.44

}  // namespace

void KernelNotifier::attach(fuse_session* session) {
  session_ = session;
  epochs_ = increment_epoch();
}

bool KernelNotifier::increment_epoch() {
  fuse_session* session = session_;
  if (!session) return false;
  fuse_out_header header{};
  header.len = sizeof header;
  header.error = kNotifyIncEpoch;
  return ::write(fuse_session_fd(session), &header, sizeof header) == sizeof header;
}

bool KernelNotifier::forget_pages_and_attributes(InodeId ino) {
  fuse_session* session = session_;
  return !session || fuse_lowlevel_notify_inval_inode(session, node_of(ino), 0, 0) != -ENOENT;
}

bool KernelNotifier::forget_attributes(InodeId ino) {
  fuse_session* session = session_;
  return !session || fuse_lowlevel_notify_inval_inode(session, node_of(ino), -1, 0) != -ENOENT;
}

void KernelNotifier::forget_range(InodeId ino, uint64_t offset, uint64_t length) {
  if (fuse_session* session = session_)
    (void)fuse_lowlevel_notify_inval_inode(session, node_of(ino), static_cast<off_t>(offset),
                                           static_cast<off_t>(length));
}

void KernelNotifier::forget_entries() {
  if (epochs_) (void)increment_epoch();
}

}  // namespace datacloud
