// Reading addresses (address.h).
#include "common/net/address.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>

namespace datacloud {
namespace {

constexpr std::string_view kTls = "tls://";

bool is_host_character(char c, bool in_brackets) {
  const bool alphanumeric =
      (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  return alphanumeric || c == '.' || (in_brackets ? c == ':' || c == '%' : c == '-' || c == '_');
}

}  // namespace

bool is_tls_address(const std::string& address) { return address.starts_with(kTls); }

result<TlsAddress> parse_tls_address(const std::string& address) {
  const auto wrong = [&](const std::string& what) {
    return failure(Errc::invalid, fmt::format("address \"{}\" {}; write \"tls://HOST:PORT\", an "
                                              "IPv6 address in brackets",
                                              address.substr(0, 300), what));
  };
  if (!is_tls_address(address)) return wrong("does not begin with tls://");
  std::string_view rest = std::string_view(address).substr(kTls.size());
  TlsAddress out;
  const bool in_brackets = rest.starts_with('[');
  size_t end = 0;
  if (in_brackets) {
    end = rest.find(']');
    if (end == std::string_view::npos) return wrong("has no closing bracket");
    out.host = std::string(rest.substr(1, end - 1));
    ++end;
  } else {
    end = std::min(rest.find(':'), rest.size());
    out.host = std::string(rest.substr(0, end));
  }
  rest.remove_prefix(end);
  if (out.host.empty() || out.host.size() > kHostBytesMax ||
      !std::all_of(out.host.begin(), out.host.end(),
                   [&](char c) { return is_host_character(c, in_brackets); })) {
    return wrong("names no host");
  }
  if (!rest.starts_with(':')) return wrong("has no port");
  rest.remove_prefix(1);
  uint32_t port = 0;
  for (const char c : rest) {
    if (c < '0' || c > '9' || port > 65535) return wrong("has a port that is no number");
    port = port * 10 + static_cast<uint32_t>(c - '0');
  }
  if (rest.empty() || port == 0 || port > 65535) return wrong("needs a port from 1 to 65535");
  out.port = static_cast<uint16_t>(port);
  return out;
}

std::string to_text(const TlsAddress& address) {
  const bool v6 = address.host.find(':') != std::string::npos;
  return fmt::format("tls://{}{}{}:{}", v6 ? "[" : "", address.host, v6 ? "]" : "", address.port);
}

bool is_wildcard(const TlsAddress& address) {
  return address.host == "0.0.0.0" || address.host == "::";
}

result<std::string> unix_socket_path(const std::string& address) {
  const std::string prefix = "unix:";
  if (address.compare(0, prefix.size(), prefix) != 0) {
    return failure(Errc::invalid, "address \"" + address + "\" is not of the form unix:/PATH");
  }
  std::string path = address.substr(prefix.size());
  if (path.empty() || path[0] != '/' || path.find('\0') != std::string::npos) {
    return failure(Errc::invalid, "address \"" + address + "\" needs an absolute path");
  }
  if (path.size() >= sizeof(sockaddr_un{}.sun_path)) {
    return failure(Errc::invalid,
                   fmt::format("socket path {} is too long: at most {} characters fit", path,
                               sizeof(sockaddr_un{}.sun_path) - 1));
  }
  return path;
}

void fill_unix_address(const std::string& path, sockaddr_un& address) {
  std::memset(&address, 0, sizeof(address));
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), std::min(path.size(), sizeof(address.sun_path) - 1));
}

}  // namespace datacloud
