// The configuration of a node, as text: what all nodes share, and what is its own.
#pragma once

#include <string>
#include <vector>

#include "common/config/config.h"

namespace datacloud {

// The [[site]] tables, as this machine has them; directories that it serves as others reach them.
std::string shared_configuration(const Config&);

struct NodeFiles {
  std::filesystem::path configuration, key, certificate, authority, data_key;
};
// In `directory`, of the cloud of that name.
NodeFiles node_files(const std::filesystem::path& directory, const std::string& cloud);

// The whole file. Without data key: the node does not mount.
std::string node_configuration(const std::string& cloud, const std::string& node,
                               const std::vector<std::string>& daemon, const NodeFiles&,
                               bool has_data_key, const std::string& shared);

}  // namespace datacloud
