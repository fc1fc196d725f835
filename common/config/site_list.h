// The sites of a configuration alone: for programs that hold no keys and talk to no daemon.
#pragma once

#include "common/config/config.h"

namespace datacloud {

// The [[site]] tables of a TOML file, as in the cloud's configuration, and with [node], if it is
// there, what this machine shows to served sites; the other tables are not looked at. Errors are
// those of load_config.
result<std::vector<SiteConfig>> load_site_list(const std::filesystem::path&);

}  // namespace datacloud
