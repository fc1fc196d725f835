// Ranges of ids, looked up from either side.
#include "fs/fuse/id_map.h"

#include <algorithm>
#include <string>

namespace datacloud {

std::optional<uint32_t> IdMap::across(const Side& side, uint32_t id) {
  auto next = side.upper_bound(id);
  if (next == side.begin()) return std::nullopt;
  const auto& [first, span] = *--next;
  if (id - first >= span.count) return std::nullopt;
  return span.other + (id - first);
}

// The lowest id of the range that another range has.
std::optional<uint32_t> IdMap::taken(const Side& side, uint32_t first, uint32_t count) {
  if (across(side, first)) return first;
  const auto next = side.lower_bound(first);
  if (next == side.end() || next->first - first >= count) return std::nullopt;
  return next->first;
}

result<void> IdMap::add(const Range& range) {
  if (range.count == 0) return failure(Errc::invalid, "a range needs at least one id");
  for (const uint32_t first : {range.cloud, range.local})
    if (range.count > kNoId - first)
      return failure(Errc::invalid, "the range goes beyond 4294967294, the last id");
  if (const auto id = taken(by_cloud_, range.cloud, range.count))
    return failure(Errc::invalid, "id " + std::to_string(*id) +
                                      " of the cloud is mapped already; remove one line");
  if (const auto id = taken(by_local_, range.local, range.count))
    return failure(Errc::invalid,
                   "local id " + std::to_string(*id) + " is mapped already; remove one line");
  by_cloud_[range.cloud] = {range.local, range.count};
  by_local_[range.local] = {range.cloud, range.count};
  return success();
}

std::optional<uint32_t> IdMap::to_local(uint32_t cloud) const { return across(by_cloud_, cloud); }
std::optional<uint32_t> IdMap::to_cloud(uint32_t local) const { return across(by_local_, local); }

}  // namespace datacloud
