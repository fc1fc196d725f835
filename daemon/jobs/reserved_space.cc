#include "daemon/jobs/reserved_space.h"

#include <algorithm>

namespace datacloud {
namespace {

using Wide = unsigned __int128;

// Takes n columns of so many bytes each off the sites, which all end at one level where they can.
// False: they do not have it.
bool take(std::map<SiteId, uint64_t>& free, int n, uint64_t column_bytes) {
  const auto sites = static_cast<uint64_t>(free.size());
  const Wide columns_max = (static_cast<uint64_t>(n) + sites - 1) / sites;
  const Wide site_max = columns_max * column_bytes,
             needed = Wide{column_bytes} * static_cast<uint64_t>(n);
  const auto above = [&](uint64_t bytes, uint64_t level) {
    return std::min(site_max, Wide{bytes > level ? bytes - level : 0});
  };
  const auto gives = [&](uint64_t level) {
    Wide sum = 0;
    for (const auto& [id, bytes] : free) sum += above(bytes, level);
    return sum >= needed;
  };
  if (!gives(0)) return false;
  uint64_t low = 0, high = 0;
  for (const auto& [id, bytes] : free) high = std::max(high, bytes);
  while (low < high) {
    const uint64_t middle = low + (high - low + 1) / 2;
    if (gives(middle)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  for (auto& [id, bytes] : free) bytes -= static_cast<uint64_t>(above(bytes, low));
  return true;
}

}  // namespace

std::optional<std::map<SiteId, uint64_t>> left_after(std::map<SiteId, uint64_t> free,
                                                     const std::vector<ReservedBytes>& reserved) {
  for (const auto& one : reserved) {
    if (one.bytes == 0) continue;
    if (free.empty() || one.k <= 0 || one.n < one.k) return std::nullopt;
    const Wide stored = Wide{one.bytes} + one.bytes / kReservedOverheadShare;
    const Wide column = (stored + static_cast<unsigned>(one.k) - 1) / static_cast<unsigned>(one.k);
    if (column > UINT64_MAX / 2) return std::nullopt;
    if (!take(free, one.n, static_cast<uint64_t>(column))) return std::nullopt;
  }
  return free;
}

}  // namespace datacloud
