// Readers of tables that more than one file of this folder needs. For .cc files of this folder
// only.
#pragma once

#include <string>
#include <vector>

#include "common/config/config.h"
#include "common/config/config_section.h"

namespace datacloud {

inline constexpr size_t kSitesMax = 64;
inline constexpr size_t kIdentitiesMax = 16;

// The [[site]] tables of the document.
result<void> read_sites(ConfigSection& root, const std::string& file, std::vector<SiteConfig>&);
// `certificate` and `key`: both or neither.
result<void> read_shown(ConfigSection&, ShownCertificate&);

}  // namespace datacloud
