// Telling the kernel to forget what it caches. Called only from threads that hold no lock an
// operation may need (the kernel may wait for our answer to one).
//
// Directory entries: kernels from 6.16 take FUSE_NOTIFY_INC_EPOCH, which makes every cached entry
// ask again and waits for nothing. Invalidating one entry instead would wait for the directory's
// lock, which a create here may hold while it waits for another mount: two mounts would wait for
// each other. On older kernels entries are therefore cached only for kOldKernelEntryTimeout.
#pragma once

#include <fuse3/fuse_lowlevel.h>

#include <atomic>

#include "common/base/ids.h"

namespace datacloud {

class KernelNotifier {
 public:
  void attach(fuse_session* session);  // after mounting; probes what the kernel can do
  // Before attach(): the directory that the kernel knows as the mount's root, inode 1.
  void set_root(InodeId root) { root_ = root; }
  bool can_expire_entries() const { return epochs_; }

  // False: the kernel has no such inode now.
  bool forget_pages_and_attributes(InodeId);
  bool forget_attributes(InodeId);  // waits for nothing
  // Pages of the range, and attributes. May wait for a page that is being read or written.
  void forget_range(InodeId, uint64_t offset, uint64_t length);
  void forget_entries();

 private:
  bool increment_epoch();
  fuse_ino_t node_of(InodeId ino) const { return ino == root_ ? FUSE_ROOT_ID : ino; }

  InodeId root_ = kRootInode;
  std::atomic<fuse_session*> session_{nullptr};
  std::atomic<bool> epochs_{false};
};

}  // namespace datacloud
