// See daemon_place.h.
#include "common/config/daemon_place.h"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "common/config/config_place.h"
#include "common/net/address.h"
#include "common/tls/node_identity.h"

namespace datacloud {
namespace {

std::string host_name() {
  std::array<char, kHostBytesMax + 1> host{};
  return ::gethostname(host.data(), host.size() - 1) == 0 ? host.data() : "";
}

}  // namespace

std::string daemon_name(const DaemonConfig& config) {
  if (!config.name.empty()) return config.name;
  const std::string host = host_name();
  const std::string name = host.substr(0, host.find('.')).substr(0, 64);
  return valid_node_name(name) ? name : "daemon";
}

std::vector<std::string> advertised_addresses(const DaemonConfig& config) {
  std::vector<std::string> out;
  for (std::string address : config.advertise.empty() ? config.listen : config.advertise) {
    if (is_tls_address(address)) {
      auto parsed = parse_tls_address(address);
      if (!parsed) continue;
      if (is_wildcard(parsed.value())) {
        parsed.value().host = host_name();
        if (parsed.value().host.empty()) continue;
        address = to_text(parsed.value());
      }
    }
    if (std::find(out.begin(), out.end(), address) == out.end()) out.push_back(std::move(address));
    if (out.size() == kAdvertisedMax) break;
  }
  return out;
}

}  // namespace datacloud
