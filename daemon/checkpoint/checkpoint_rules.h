// The records of checkpoints, and which are kept. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/proto/checkpoint.pb.h"

namespace datacloud {

// Its record is 'A' and this, and its name behind it.
inline constexpr char kCheckpointRecord[] = "checkpoint/";
// For texts, and part of names: 16 hex digits.
std::string checkpoint_name(uint64_t number);
// Whether a record can be one that the job has written.
bool valid_checkpoint(const pb::CheckpointRecord&);

// Of the last entry that a whole one covers.
uint64_t covered_entry(const pb::CheckpointRecord&);

struct KeptCheckpoints {
  std::vector<uint64_t> kept;     // numbers, the newest first
  std::vector<uint64_t> retired;  // whole ones that are not
  uint64_t floor = 0;             // of the journal; 0: it keeps everything
};
// Kept are the newest two, and when neither survives the losses it should, the newest that does. A
// journal that is `full` keeps nothing for that one.
KeptCheckpoints choose_kept(const std::vector<pb::CheckpointRecord>& whole, bool full);

}  // namespace datacloud
