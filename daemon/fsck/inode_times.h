// The times of an inode's record, for fsck.
#pragma once

#include <string>

#include "common/proto/records.pb.h"

namespace datacloud {

// Puts each time into the one form that it has (common/proto/file_time.h); it reads as before.
// Returns what was wrong, for people; empty: nothing was, and nothing is changed.
std::string correct_times(pb::Inode&);

// Whether the record needs the feature "times".
bool uses_times(const pb::Inode&);

}  // namespace datacloud
