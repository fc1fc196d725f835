// What is mounted at a mount point, and who serves it.
//
// A Data Cloud mount is not mounted over: the second one would hide the first from everybody but
// the programs that are inside it. Mounting over anything else is legitimate (an automount, a bind
// mount), and so are several mount points of one cloud. A mount whose process has died is detached:
// nothing below it can be used again.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "common/base/error.h"
#include "common/base/mount_table.h"

namespace datacloud {

// The mount point as the kernel's table shows it, without touching a file system that is mounted
// there: it may be dead or hang.
result<std::string> resolve_mount_point(const std::string& path);

// The uppermost mount at a resolved mount point, when it is a Data Cloud mount.
std::optional<MountTableEntry> data_cloud_at(const std::string& point);

struct MountServer {
  pid_t process = 0;
  std::vector<std::string> words;  // its command line, without the program
};
// The process that serves a mount; nullopt when it is not to be seen from here (another process
// name space, or not ours to look at).
std::optional<MountServer> server_of(const MountTableEntry&);

// Detaches dead mounts from the mount point (and says so on standard error). Fails when a living
// one is there; the text names it and how to unmount it.
result<void> clear_mount_point(const std::string& point);

// Keeps two processes from mounting at one mount point at the same time: held from the last look
// until the mount is there.
class MountPointLock {
 public:
  // Waits for others who hold it. A directory that cannot be locked (some network file systems) is
  // used without.
  explicit MountPointLock(const std::string& point);
  ~MountPointLock();
  MountPointLock(const MountPointLock&) = delete;
  MountPointLock& operator=(const MountPointLock&) = delete;

 private:
  int fd_;
};

// The failure that says who is mounted there.
Error already_mounted(const MountTableEntry&);

}  // namespace datacloud
