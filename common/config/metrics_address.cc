// Parsed only to be refused early: the exporter takes the text.
#include "common/config/metrics_address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string_view>

namespace datacloud {

result<void> check_metrics_address(const std::string& address) {
  const size_t colon = address.rfind(':');
  const std::string host = address.substr(0, std::min(colon, address.size()));
  const std::string_view port =
      colon == std::string::npos ? "" : std::string_view(address).substr(colon + 1);
  uint32_t number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  const bool port_good = error == std::errc() && !port.empty() &&
                         end == port.data() + port.size() && number > 0 && number < 65536;
  in6_addr parsed{};
  const bool v6 = host.size() > 2 && host.front() == '[' && host.back() == ']' &&
                  ::inet_pton(AF_INET6, host.substr(1, host.size() - 2).c_str(), &parsed) == 1;
  if (port_good && (v6 || ::inet_pton(AF_INET, host.c_str(), &parsed) == 1)) return success();
  return failure(Errc::invalid, "the metrics address \"" + address.substr(0, 100) +
                                    "\" is not understood; write \"127.0.0.1:9555\" or "
                                    "\"[::1]:9555\"");
}

}  // namespace datacloud
