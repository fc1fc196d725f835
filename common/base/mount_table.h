// The kernel's list of mounts, /proc/self/mountinfo, as data (its format: proc(5)).
//
// Thread safety: pure functions; read_mount_table reads a file of the kernel, which never waits for
// a mounted file system.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace datacloud {

struct MountTableEntry {
  std::string device;         // "MAJOR:MINOR" of the file system, as stat(2) shows it
  std::string root;           // the directory of the file system that is shown; "/" unless bound
  std::string point;          // the mount point, without the table's escapes
  std::string options;        // of this mount: "rw,nosuid,relatime"
  std::string type;           // "ext4", "fuse.datacloud"
  std::string source;         // without escapes; a configuration file for fuse.datacloud
  std::string super_options;  // of the file system: "rw,sync,allow_other"

  bool is_data_cloud() const { return type == "fuse.datacloud"; }
  // Whether a comma separated word is among the options of the mount or of the file system.
  bool has_option(std::string_view word) const;
};

// Lines that are not in the format are left out.
std::vector<MountTableEntry> parse_mount_table(std::string_view text);
// Of this process's mount name space; empty where /proc is not there.
std::vector<MountTableEntry> read_mount_table();

}  // namespace datacloud
