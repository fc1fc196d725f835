// Is a path a file of a mounted cloud? Told by the device number of the file and the kernel's list
// of mounts.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/base/error.h"
#include "common/base/mount_table.h"

namespace datacloud {

// "MAJOR:MINOR" of the Data Cloud mounts in the table.
std::set<std::string> datacloud_devices(const std::vector<MountTableEntry>& table);

// The inode when `path` is on a mounted cloud; nullopt when it is not. A path that lies below a
// mount and cannot be looked at is a failure.
result<std::optional<uint64_t>> mounted_inode(const std::string& path);

}  // namespace datacloud
