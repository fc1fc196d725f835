// Runs of an inode's block map and parts of them.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/error.h"
#include "common/base/ids.h"
#include "common/proto/records.pb.h"
#include "daemon/metadata/metadata_store.h"

namespace datacloud::run_ranges {

inline uint64_t end_of(const pb::Run& run) { return run.first_block() + run.count(); }

// The part of `run` inside [first, end), which it overlaps.
pb::Run clip(const pb::Run& run, uint64_t first, uint64_t end);

// Runs of the inode that overlap [first, end), at most count_max, in order. corrupt: one does not
// parse.
result<std::vector<pb::Run>> overlapping(const Transaction& txn, InodeId ino, uint64_t first,
                                         uint64_t end, size_t count_max);

}  // namespace datacloud::run_ranges
