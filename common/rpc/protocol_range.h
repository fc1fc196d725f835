// Which protocols this program speaks, and which one two programs agree on (docs/protocol.md,
// "Versions"). Pure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

#include "common/base/error.h"
#include "common/proto/rpc.pb.h"

namespace datacloud {

struct ProtocolRange {
  uint32_t oldest = 0, newest = 0;

  bool has(uint32_t version) const { return version >= oldest && version <= newest; }
  std::string text() const;  // "2", or "2 to 4"
};

ProtocolRange own_protocols();
ProtocolRange protocols_of(const pb::HelloRequest&);
// The newest that both speak.
std::optional<uint32_t> common_protocol(const ProtocolRange&, const ProtocolRange&);

// A program with its release, as a refusal names it.
struct Speaker {
  std::string version;  // empty: not told
  ProtocolRange protocols;
};
// unsupported: names both releases and protocols, and what to install where.
Error no_common_protocol(const Speaker& daemon, const Speaker& client);

}  // namespace datacloud
