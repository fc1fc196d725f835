// Agreeing on a protocol (protocol_range.h).
#include "common/rpc/protocol_range.h"

#include <fmt/format.h>

#include "common/rpc/protocol_versions.h"

namespace datacloud {
namespace {

constexpr size_t kVersionBytesMax = 64;

std::string name_of(const Speaker& speaker) {
  const std::string version = speaker.version.substr(0, kVersionBytesMax);
  return version.empty() ? "of a release that does not tell its number" : "Data Cloud " + version;
}

std::string release_of(const Speaker& speaker) {
  const std::string version = speaker.version.substr(0, kVersionBytesMax);
  return version.empty() ? "a newer Data Cloud" : "Data Cloud " + version;
}

}  // namespace

std::string ProtocolRange::text() const {
  return oldest == newest ? fmt::format("{}", newest) : fmt::format("{} to {}", oldest, newest);
}

ProtocolRange own_protocols() { return {kProtocolOldest, kProtocolNewest}; }

ProtocolRange protocols_of(const pb::HelloRequest& hello) {
  const uint32_t newest = hello.protocol();
  const uint32_t oldest = hello.protocol_min() == 0 ? newest : hello.protocol_min();
  return {std::min(oldest, newest), newest};
}

std::optional<uint32_t> common_protocol(const ProtocolRange& a, const ProtocolRange& b) {
  const uint32_t newest = std::min(a.newest, b.newest);
  if (newest < std::max(a.oldest, b.oldest)) return std::nullopt;
  return newest;
}

Error no_common_protocol(const Speaker& daemon, const Speaker& client) {
  const bool old_client = client.protocols.newest < daemon.protocols.oldest;
  return Error(
      Errc::unsupported,
      fmt::format("the daemon ({}) speaks protocol {}, this program ({}) protocol {}: install {} "
                  "or later {}",
                  name_of(daemon), daemon.protocols.text(), name_of(client),
                  client.protocols.text(), release_of(old_client ? daemon : client),
                  old_client ? "on this machine" : "where the daemon runs, before its clients"));
}

}  // namespace datacloud
