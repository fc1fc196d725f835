// Whether what files have reserved fits into what the sites have free. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "common/base/ids.h"

namespace datacloud {

// Bytes of files under one code, k of n columns.
struct ReservedBytes {
  int k = 0, n = 0;
  uint64_t bytes = 0;
};

// What shards take beyond the bytes of files: sealing of blocks (40 bytes each), headers of shards.
inline constexpr uint64_t kReservedOverheadShare = 64;  // one 64th more

// What remains free at each site once all of it is stored, spread so that the emptiest sites get
// most, with at most ceil(n / sites) columns of one stripe at one site. nullopt: it does not fit.
std::optional<std::map<SiteId, uint64_t>> left_after(std::map<SiteId, uint64_t> free,
                                                     const std::vector<ReservedBytes>&);

}  // namespace datacloud
