// See config_place.h.
#include "common/config/config_place.h"

#include <algorithm>

#include "common/config/config_section.h"
#include "common/net/address.h"
#include "common/tls/node_identity.h"

namespace datacloud {
namespace {

// One address or a list of them, in quotes.
result<std::vector<std::string>> read_addresses(const ConfigSection& s, const toml::node& node,
                                                const char* key, size_t count_max) {
  std::vector<std::string> out;
  size_t listed = 1;
  if (const auto* one = node.as_string()) {
    out.push_back(one->get());
  } else if (const auto* several = node.as_array()) {
    listed = several->size();
    for (const auto& item : *several)
      if (const auto* text = item.as_string()) out.push_back(text->get());
  }
  if (!out.empty() && out.size() == listed && listed <= count_max) return out;
  return failure(s.error(key, std::string(key) + " must be an address or a list of 1 to " +
                                  std::to_string(count_max) + " addresses, in quotes"));
}

result<void> check_address(const ConfigSection& s, const char* key, const std::string& address) {
  if (is_tls_address(address)) {
    if (auto tls = parse_tls_address(address); !tls)
      return failure(s.error(key, std::string(key) + " " + tls.error().text()));
    return success();
  }
  if (!address.starts_with("unix:/"))
    return failure(
        s.error(key, std::string(key) + " address " + in_quotes(address) +
                         " is not understood; write \"unix:/PATH\" or \"tls://HOST:PORT\""));
  if (auto path = unix_socket_path(address); !path)
    return failure(s.error(key, path.error().text()));
  return success();
}

// To be connected to.
result<void> check_reachable(const ConfigSection& s, const char* key, const std::string& address) {
  TRY(check_address(s, key, address));
  if (!is_tls_address(address) || !is_wildcard(parse_tls_address(address).value()))
    return success();
  return failure(s.error(key, std::string(key) + " address " + in_quotes(address) +
                                  " is one to listen on; name the host that others connect to"));
}

}  // namespace

result<void> read_place(ConfigSection& s, DaemonConfig& daemon) {
  const toml::node* node = s.find("listen");
  if (node == nullptr) return failure(s.missing("listen", "set it to \"unix:/PATH\""));
  TRY(daemon.listen, read_addresses(s, *node, "listen", kConfiguredAddressesMax));
  for (const auto& address : daemon.listen) {
    TRY(check_address(s, "listen", address));
  }
  TRY(s.text("name", daemon.name));
  if (s.find("name") != nullptr && !valid_node_name(daemon.name))
    return failure(s.error("name", in_quotes(daemon.name) +
                                       " cannot name a daemon; a name has 1 to 64 letters, "
                                       "digits, '-', '_' or '.'"));
  TRY(s.number("order", daemon.order, 0, kDaemonOrderMax));
  node = s.find("advertise");
  if (node == nullptr) return success();
  TRY(daemon.advertise, read_addresses(s, *node, "advertise", kAdvertisedMax));
  for (const auto& address : daemon.advertise) {
    TRY(check_reachable(s, "advertise", address));
  }
  return success();
}

result<void> read_daemon_addresses(ConfigSection& s, std::vector<std::string>& addresses) {
  const toml::node* node = s.find("daemon");
  const auto* list = node != nullptr ? node->as_array() : nullptr;
  const auto read = list != nullptr ? read_addresses(s, *list, "daemon", kConfiguredAddressesMax)
                                    : result<std::vector<std::string>>(failure(Errc::invalid, ""));
  if (!read)
    return failure(s.error("daemon",
                           "daemon must be a list of 1 to 16 addresses such as "
                           "[\"tls://HOST:PORT\"]"));
  addresses = read.value();
  for (const auto& address : addresses) {
    if (auto tls = parse_tls_address(address); !tls)
      return failure(s.error("daemon", tls.error().text()));
  }
  return success();
}

}  // namespace datacloud
