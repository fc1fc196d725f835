// See node_addresses.h.
#include "tools/node_addresses.h"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "common/net/address.h"

namespace datacloud {

std::vector<std::string> node_addresses(
    const NodeConfig& node, const google::protobuf::RepeatedPtrField<pb::DaemonPlace>& daemons,
    const google::protobuf::RepeatedPtrField<std::string>& listen, size_t count_max) {
  std::vector<std::string> out;
  const auto add = [&](const std::string& address) {
    if (out.size() < count_max && parse_tls_address(address) &&
        std::find(out.begin(), out.end(), address) == out.end())
      out.push_back(address);
  };
  std::vector<const pb::DaemonPlace*> order;
  for (const bool leads : {true, false})
    for (const auto& place : daemons)
      if (place.leads() == leads) order.push_back(&place);
  bool more = true;
  for (int round = 0; more; ++round) {
    more = false;
    for (const auto* place : order) {
      int nth = 0;
      for (const auto& address : place->addresses()) {
        if (!is_tls_address(address) || nth++ != round) continue;
        add(address);
        more = true;
      }
    }
  }
  for (const auto& address : node.daemon) add(address);
  if (!out.empty()) return out;
  for (const auto& text : listen) {
    auto address = parse_tls_address(text);
    if (!address) continue;
    if (is_wildcard(address.value())) {
      std::array<char, 256> host{};
      if (::gethostname(host.data(), host.size() - 1) != 0) continue;
      address.value().host = host.data();
    }
    add(to_text(address.value()));
  }
  return out;
}

}  // namespace datacloud
