// What lies where in the daemon's state directory ([daemon] state): decided once, for the daemon
// and `datacloud create`.
#pragma once

#include <filesystem>

#include "common/config.h"

namespace datacloud {

// LevelDB's directory (MetadataStore::Options::directory).
inline std::filesystem::path metadata_directory(const DaemonConfig& daemon) {
  return daemon.state / "metadata";
}

}  // namespace datacloud
