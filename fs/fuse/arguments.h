// The command line of mount.datacloud: F MOUNTPOINT [-f] [-o OPTIONS].
#pragma once

#include <string>
#include <vector>

#include "common/config/config.h"

namespace datacloud {

struct MountArguments {
  std::string config_file;
  std::string mountpoint;
  bool foreground = false;
  bool verbose = false;
  bool help = false;
  bool version = false;
  std::string site;                 // -o site=NAME
  std::string log_file;             // -o log=FILE
  bool log_json = false;            // -o log_format=json
  std::string metrics;              // -o metrics=ADDRESS
  bool allow_other = true;          // -o noallow_other
  std::vector<std::string> kernel;  // ro, nosuid, ...: passed to the kernel
  std::vector<std::string> limits;  // NAME=VALUE of MountConfig, applied after the file
};

// Errors are `invalid` and name the option. mount(8)'s own options (_netdev, nofail, x-...) are
// accepted and ignored.
result<MountArguments> parse_mount_arguments(const std::vector<std::string>& arguments);
std::string mount_usage();

}  // namespace datacloud
