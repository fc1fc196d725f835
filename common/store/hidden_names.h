// Objects that no listing shows: parts of the metadata's checkpoints (docs/journal.md), and the
// record of who leads (common/site/leader_record.h). They are put, read and removed as all others
// are; who lists a site, to find garbage, or to count or check what is there, does not see them,
// because their names begin with a dot.
#pragma once

#include <string>
#include <string_view>

#include "common/store/object_store.h"

namespace datacloud {

inline constexpr std::string_view kHiddenPrefix = ".checkpoint-";
inline constexpr std::string_view kLeaderPrefix = ".leader-";

inline bool hidden_object_name(const std::string& name) {
  return name.size() <= 200 &&
         (name.starts_with(kHiddenPrefix) || name.starts_with(kLeaderPrefix)) &&
         valid_object_name(name.substr(1));
}

// What a back end stores an object under, listed or not.
inline bool storable_object_name(const std::string& name) {
  return valid_object_name(name) || hidden_object_name(name);
}

}  // namespace datacloud
