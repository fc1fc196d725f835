// The command line of mount.datacloud: F MOUNTPOINT [-f] [-o OPTIONS].
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/config/config.h"
#include "fs/fuse/mount_flags.h"
#include "fs/fuse/owners.h"

namespace datacloud {

struct MountArguments {
  std::string config_file;
  std::string mountpoint;
  bool foreground = false;
  bool verbose = false;
  bool help = false;
  bool version = false;
  bool remount = false;             // -o remount: new flags for a mount that exists
  MountFlags flags;                 // ro, nosuid, ...: the kernel's
  std::string directory;            // of the cloud, that is shown: of the source, or -o subdir=PATH
  std::string site;                 // -o site=NAME
  std::string log_file;             // -o log=FILE
  bool log_json = false;            // -o log_format=json
  std::string metrics;              // -o metrics=ADDRESS
  size_t known_names_max = 50'000;  // -o known_names_max=N
  bool local_locks = false;         // -o nolock
  bool daily_atime = false;         // -o atime_daily
  bool allow_other = true;          // -o noallow_other
  std::string uidmap;               // -o uidmap=FILE
  std::optional<Owner> squash;      // -o squash=UID:GID
  std::vector<std::string> limits;  // NAME=VALUE of MountConfig, applied after the file
  std::vector<std::string> own;  // the options of ours, word by word; they last as the mount does
};

// The parts of what is mounted: `CONFIG:/DIRECTORY`, or CONFIG alone when that is a file. CONFIG is
// a file, or the name of a cloud (named_cloud).
struct MountSource {
  std::string config;
  std::string directory;
};
MountSource parse_mount_source(const std::string& source);

// Errors are `invalid` and name the option. With -s unknown options are left out, as mount(8) says.
result<MountArguments> parse_mount_arguments(const std::vector<std::string>& arguments);
std::string mount_usage();

}  // namespace datacloud
