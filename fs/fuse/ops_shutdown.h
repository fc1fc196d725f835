// FS_IOC_SHUTDOWN: ends this mount for all programs at once, as XFS and ext4 have it for tests and
// emergencies.
#pragma once

#include <fuse3/fuse_lowlevel.h>

namespace datacloud {

// False: the command is another one, and nothing was replied. `address`: of the program's argument.
bool ioctl_of_shutdown(fuse_req_t, unsigned command, const void* address);

}  // namespace datacloud
