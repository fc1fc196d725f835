// What a daemon tells the others, and mounts, of where it is: [daemon] name, order, advertise.
#pragma once

#include <string>
#include <vector>

#include "common/config/config.h"

namespace datacloud {

// [daemon] name, or this machine's name up to its first dot; "daemon" where that names nothing.
std::string daemon_name(const DaemonConfig&);

// [daemon] advertise; without that, what it listens on, with this machine's name for 0.0.0.0 and
// [::]. The first 8. Unix sockets are of use on its own machine alone, and are told there only.
std::vector<std::string> advertised_addresses(const DaemonConfig&);

}  // namespace datacloud
