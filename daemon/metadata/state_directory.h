// What lies where in the daemon's state directory ([daemon] state): decided once, for the daemon
// and `datacloud create`.
#pragma once

#include <filesystem>

#include "common/config/config.h"

namespace datacloud {

// LevelDB's directory (MetadataStore::Options::directory).
inline std::filesystem::path metadata_directory(const DaemonConfig& daemon) {
  return daemon.state / "metadata";
}

// Names that sites have listed (listed_names.h); may be deleted while the daemon does not run.
inline std::filesystem::path scrub_directory(const DaemonConfig& daemon) {
  return daemon.state / "scrub";
}

}  // namespace datacloud
