// mount -o remount: new flags for a mount that exists.
//
// mount(8) runs mount.datacloud again, with `remount` among the options and all options of fstab or
// of the kernel's table beside it. The flags are the kernel's; the mount's own process goes on and
// hears of them only by the fsync of its root directory that follows. Its own options cannot
// change.
#pragma once

#include "fs/fuse/arguments.h"

namespace datacloud {

// Before a mount becomes read-only everything written through it is made durable; when that fails,
// nothing is changed. EBUSY, as from other file systems, while a file is open for writing. The text
// of a failure names the option or the remedy.
result<void> remount(const MountArguments&);

}  // namespace datacloud
