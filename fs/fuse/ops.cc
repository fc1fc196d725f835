// The table of operations and what is agreed with the kernel at the start.
#include "fs/fuse/ops.h"

#include <algorithm>

#include "fs/fuse/mount.h"

namespace datacloud {
namespace {

constexpr unsigned kTransferBytesMax = 1u << 20;  // the kernel's limit

void op_init(void* owner, fuse_conn_info* conn) {
  const auto want = [conn](unsigned capability) {
    if (conn->capable & capability) conn->want |= capability;
  };
  want(FUSE_CAP_ASYNC_READ);
  want(FUSE_CAP_ASYNC_DIO);
  want(FUSE_CAP_READDIRPLUS);
  want(FUSE_CAP_READDIRPLUS_AUTO);
  want(FUSE_CAP_CACHE_SYMLINKS);
  want(FUSE_CAP_EXPORT_SUPPORT);
  // The kernel checks ACLs, the daemon keeps and inherits them. The umask comes with each creation:
  // what a directory's default ACL says goes before it.
  want(FUSE_CAP_POSIX_ACL);
  want(FUSE_CAP_DONT_MASK);
  // With -o nolock the kernel keeps locks to itself.
  if (!static_cast<Mount*>(owner)->locks_shared())
    conn->want &= ~static_cast<unsigned>(FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS);
  // Truncation at open comes as a change of size, with what the kernel does to set-user-id then.
  conn->want &= ~static_cast<unsigned>(FUSE_CAP_ATOMIC_O_TRUNC);
  // Pages stay as long as the lease holds; the kernel is told when it does not.
  conn->want &= ~static_cast<unsigned>(FUSE_CAP_AUTO_INVAL_DATA);
  want(FUSE_CAP_EXPLICIT_INVAL_DATA);
  // Our operations need plain memory: spliced pipes would be read into memory anyway.
  conn->want &=
      ~static_cast<unsigned>(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
  conn->max_write = kTransferBytesMax;
  conn->max_read = kTransferBytesMax;
  conn->max_readahead = std::min(conn->max_readahead, kTransferBytesMax);
  // Asynchronous O_DIRECT writes that wait for pages to go (page_invalidator.h) must leave room for
  // the reads that hold these pages: more than programs have such writes under way.
  conn->max_background = 16384;
  conn->congestion_threshold = 48;  // above this the kernel reads less ahead
  conn->time_gran = 1;
}

}  // namespace

fuse_lowlevel_ops fuse_operations() {
  fuse_lowlevel_ops ops{};
  ops.init = op_init;
  add_lookup_operations(ops);
  add_entry_operations(ops);
  add_file_operations(ops);
  add_clone_operations(ops);
  add_directory_operations(ops);
  add_lock_operations(ops);
  add_xattr_operations(ops);
  return ops;
}

}  // namespace datacloud
