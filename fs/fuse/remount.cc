// Changing a mount's flags.
#include "fs/fuse/remount.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>

#include "fs/fuse/mount_point.h"

namespace datacloud {
namespace {

// `sync MOUNTPOINT`: everything written through the mount is durable, and its process has read its
// flags again (Mount::read_flags).
result<void> sync_root(const std::string& point) {
  const int fd = ::open(point.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool done = fd >= 0 && ::fsync(fd) == 0;
  const int error = errno;
  if (fd >= 0) ::close(fd);
  if (!done) return failure(Error::posix(error, point));
  return success();
}

Error fixed(const std::string& option) {
  return Error(Errc::invalid,
               "-o " + option + ": cannot change while mounted; unmount, and mount again with it");
}

// Options of ours are there when fstab has them: they must be those the mount was started with.
result<void> check_own_options(const MountArguments& wanted, const MountTableEntry& entry) {
  if (wanted.flags.synchronous_directories() && !entry.has_option("dirsync"))
    return failure(fixed("dirsync"));
  MountArguments running;
  if (const auto server = server_of(entry))
    if (auto parsed = parse_mount_arguments(server->words)) running = std::move(parsed.value());
  for (const auto& option : wanted.own) {
    if (option == "allow_other" || option == "noallow_other") {
      if (entry.has_option("allow_other") != (option == "allow_other"))
        return failure(fixed(option));
    } else if (std::find(running.own.begin(), running.own.end(), option) == running.own.end()) {
      return failure(fixed(option));
    }
  }
  return success();
}

Error refused_by_kernel(const std::string& point, int error) {
  if (error == EBUSY)
    return Error::posix(
        error, point + ": files are open for writing; fuser -vm " + point + " shows by whom");
  if (error == EPERM) return Error::posix(error, point + ": only root can remount");
  return Error::posix(error, point + ": " + std::generic_category().message(error));
}

}  // namespace

result<void> remount(const MountArguments& wanted) {
  TRY(const auto point, resolve_mount_point(wanted.mountpoint));
  const auto entry = data_cloud_at(point);
  if (!entry)
    return failure(Errc::not_found, "-o remount: no Data Cloud mount at " + point +
                                        "; findmnt -t fuse.datacloud lists them");
  TRY(check_own_options(wanted, *entry));
  const bool to_read_only = wanted.flags.read_only() && !entry->has_option("ro");
  if (to_read_only) {
    if (auto done = sync_root(point); !done)
      return failure(done.error().in(fmt::format(
          "not read-only, because data could not be written ({}); mount -i -o remount,ro only sets "
          "the flag",
          std::generic_category().message(done.error().errno_value()))));
  }
  // What the process holds of `dirsync` stays; the kernel drops what is not named.
  unsigned long flags = wanted.flags.value();
  if (entry->has_option("dirsync")) flags |= MS_DIRSYNC;
  if (::mount("none", point.c_str(), nullptr, MS_REMOUNT | flags, nullptr) != 0)
    return failure(refused_by_kernel(point, errno));
  // Written between the first fsync and the flag; and the process learns of `sync`.
  if (to_read_only || wanted.flags.synchronous() != entry->has_option("sync")) {
    if (auto done = sync_root(point); !done)
      return failure(done.error().in(fmt::format(
          "remounted, but data could not be written ({}); the log of the mount says why",
          std::generic_category().message(done.error().errno_value()))));
  }
  return success();
}

}  // namespace datacloud
