// Is a path a file of a mounted cloud? Told by the device number of the file and the kernel's list
// of mounts.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "common/base/error.h"

namespace datacloud {

// "MAJOR:MINOR" of the mounts of type fuse.datacloud in the text of /proc/self/mountinfo.
std::set<std::string> datacloud_devices(std::string_view mountinfo);

// The inode when `path` is on a mounted cloud; nullopt when it is not. A path that lies below a
// mount and cannot be looked at is a failure.
result<std::optional<uint64_t>> mounted_inode(const std::string& path);

}  // namespace datacloud
