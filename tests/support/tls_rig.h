// A cloud's authority with a daemon and nodes, for tests of TLS.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "common/base/clock.h"
#include "common/tls/tls_stream.h"

namespace datacloud {

inline constexpr int64_t kTestDayNs = 24ll * 3600 * kNsPerSecond;

class TestCloud {
 public:
  explicit TestCloud(const std::string& uuid = "00000000-0000-4000-8000-000000000001")
      : authority(CertificateAuthority::derive(SecretKey(ByteView(Bytes(32, 7))), uuid)) {}

  // A key and its certificate, `age_ns` old.
  TlsCredentials credentials(const std::string& name, NodeRoles roles,
                             int64_t valid_ns = kTestDayNs, int64_t age_ns = 0) const {
    TlsCredentials out;
    out.key = NodeKey::generate();
    out.authority = authority.certificate();
    out.certificate =
        authority
            .issue(out.key, {authority.cloud_uuid(), name, roles}, wall_now_ns() - age_ns, valid_ns)
            .der;
    return out;
  }
  std::shared_ptr<const TlsContext> daemon() const {
    return TlsContext::make(TlsContext::Side::server, credentials("daemon", NodeRole::daemon))
        .value();
  }
  std::shared_ptr<const TlsContext> node(const std::string& name,
                                         NodeRoles roles = NodeRole::mount) const {
    return TlsContext::make(TlsContext::Side::client, credentials(name, roles)).value();
  }

  const CertificateAuthority authority;
};

// A port of 127.0.0.1 that nobody listens on now.
inline uint16_t free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  const bool bound = ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
                     ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0;
  ::close(fd);
  return bound ? ntohs(address.sin_port) : 0;
}

}  // namespace datacloud
