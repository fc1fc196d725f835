// What flags of inodes permit, and the ioctls about them. Functions of an operation that is served.
#pragma once

#include <fuse3/fuse_lowlevel.h>

#include "common/base/error.h"
#include "fs/file/inode.h"
#include "fs/fuse/mount.h"

namespace datacloud {

// False: the command is none of these, and nothing was replied.
bool ioctl_of_flags(fuse_req_t, fuse_ino_t, unsigned command, const void* in, size_t in_bytes,
                    size_t out_bytes);

// EPERM where +i or +a forbid it. `flags`: as of open(2). The inode's attributes are known under a
// lease.
result<void> may_open(const InodePtr&, int flags);
// `to_set`: FUSE_SET_ATTR_*. Asks for a lease.
result<void> may_set_attributes(Mount&, const InodePtr&, int to_set);
// Changing what is there from `offset` on; FileIo asks itself for what programs write. Asks for a
// lease.
result<void> may_overwrite(Mount&, const InodePtr&, uint64_t offset);

}  // namespace datacloud
