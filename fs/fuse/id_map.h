// Ids of users, or of groups, in the cloud and on this machine: ranges, one to one.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "common/base/error.h"

namespace datacloud {

// The kernel's invalid id (make_kuid gives INVALID_UID for it); nobody has it.
constexpr uint32_t kNoId = 0xffffffff;

class IdMap {
 public:
  struct Range {
    uint32_t cloud = 0, local = 0;  // the first of each side
    uint32_t count = 1;
  };

  // invalid, and nothing is added, when the range is empty, contains kNoId, or overlaps another on
  // either side.
  result<void> add(const Range&);
  bool empty() const { return by_cloud_.empty(); }
  size_t ranges() const { return by_cloud_.size(); }

  std::optional<uint32_t> to_local(uint32_t cloud) const;
  std::optional<uint32_t> to_cloud(uint32_t local) const;

 private:
  // By the first id of that side: this one, the first of the other side, and how many.
  struct Span {
    uint32_t other, count;
  };
  using Side = std::map<uint32_t, Span>;
  static std::optional<uint32_t> across(const Side&, uint32_t id);
  static std::optional<uint32_t> taken(const Side&, uint32_t first, uint32_t count);

  Side by_cloud_, by_local_;
};

}  // namespace datacloud
