// Where a daemon listens and is reached: "unix:/PATH" or "tls://HOST:PORT".
//
// HOST is an IPv4 address, an IPv6 address in brackets, or a name. Nothing here resolves names.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/error.h"

struct sockaddr_un;

namespace datacloud {

inline constexpr size_t kHostBytesMax = 253;  // of a DNS name (RFC 1035)

struct TlsAddress {
  std::string host;  // without brackets
  uint16_t port = 0;
};

bool is_tls_address(const std::string& address);
// invalid says what is wrong with it.
result<TlsAddress> parse_tls_address(const std::string& address);
std::string to_text(const TlsAddress&);
// "0.0.0.0" and "::": to listen on, not to connect to.
bool is_wildcard(const TlsAddress&);

// "unix:/path" to a path that fits a socket address. invalid says what is wrong.
result<std::string> unix_socket_path(const std::string& address);
void fill_unix_address(const std::string& path, sockaddr_un&);

}  // namespace datacloud
