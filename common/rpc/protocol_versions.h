// Versions of the protocol between mounts and the daemon (docs/protocol.md, "Versions").
//
// A hello says which versions its program speaks, the answer which one is spoken. A mount that is
// refused for its version offers the oldest one: daemons from before the choice know only that.
#pragma once

#include <cstdint>

namespace datacloud {

inline constexpr uint32_t kProtocolOldest = 2;
// A session comes back under a new number, requests are kept until they are committed, and inode
// numbers are granted.
inline constexpr uint32_t kProtocolRejoin = 3;
inline constexpr uint32_t kProtocolNewest = kProtocolRejoin;

}  // namespace datacloud
