// The keys that say where daemons are: [daemon] listen, name, order, advertise; [node] daemon.
#pragma once

#include <string>
#include <vector>

#include "common/config/config.h"

namespace datacloud {

class ConfigSection;

inline constexpr size_t kAdvertisedMax = 8;            // that one daemon advertises
inline constexpr size_t kConfiguredAddressesMax = 16;  // of listen, and of [node] daemon
inline constexpr uint32_t kDaemonOrderMax = 1000;

// Of [daemon]. Errors are those of load_config.
result<void> read_place(ConfigSection&, DaemonConfig&);
// Of [node]: where its daemons are.
result<void> read_daemon_addresses(ConfigSection&, std::vector<std::string>&);

}  // namespace datacloud
