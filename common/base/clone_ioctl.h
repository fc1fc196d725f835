// The ioctl by which a program has copy_file_range share blocks or fail, instead of copying what
// cannot be shared. (FICLONE would be the usual way: the kernel does not pass it on to FUSE.)
//
//   uint32_t on = 1;
//   ioctl(target, kIoctlShareOnly, &on);   // of this open file description, until 0
//   copy_file_range(source, &at, target, &to, length, 0);
//
// ioctl: ENOTTY when the file is not on Data Cloud (or the mount does not know this), EOPNOTSUPP
// when the cloud does not use shared-slots. copy_file_range then: EINVAL when offsets or files do
// not allow it, EMLINK when it cannot be done now or not so often.
#pragma once

#include <sys/ioctl.h>

#include <cstdint>

namespace datacloud {

inline constexpr unsigned long kIoctlShareOnly = _IOW(0xDC, 1, uint32_t);

}  // namespace datacloud
