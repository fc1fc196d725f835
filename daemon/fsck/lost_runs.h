// Block runs whose contents are lost: what fsck makes of a run that names a stripe without a
// record, or slots that are not its own.
//
// Such blocks stay mapped, to no stripe: reading them is an error, never zeros, and they can be
// overwritten and removed like others. The run as it was is kept in quarantine, and so are the
// objects of a stripe whose record is lost or in quarantine.
#pragma once

#include <vector>

#include "daemon/fsck/record_check.h"

namespace datacloud {

struct RunPart {
  enum class Fate { kept, lost, left_out };  // left out: not mapped any more
  uint64_t count = 0;                        // blocks
  Fate fate = Fate::kept;
};

struct StoredRun {
  InodeId ino = 0;
  pb::Run run;
  std::string raw;                   // its record
  std::optional<std::string> owner;  // its record in the reverse map; nullopt: that is another's
  bool further = false;              // that record is a `J`: the slots have another user too
};

// Where the reverse map tells of a run: of its first user under `R`, of further ones under `J`.
struct FoundReference {
  std::string key;
  std::optional<std::string> raw;  // nullopt: there is no record
  bool further = false;
};
// The run's own record; where there is none, the one under `R`, if any, which is another's.
result<FoundReference> find_reference(const RecordSnapshot&, InodeId, const pb::Run&);
// In slots that both runs name they mean the same sealed blocks: sharing them is right. Else one of
// the two is wrong: a slot holds one block, sealed for one place and version.
bool same_content(InodeId, const pb::Run&, InodeId, const pb::Run&);

// The changes that split the run into these parts, which add up to it. Lost blocks from `end` on
// are left out.
std::vector<RecordChange> split_run(const StoredRun&, const std::vector<RunPart>& parts,
                                    uint64_t end);

// The first block of the file's next run behind `first`.
result<uint64_t> next_run(const RecordSnapshot&, InodeId, uint64_t first);

// Where blocks that are lost from `first` on end at the latest: at the file's next run, or where
// the file ends by its size.
result<uint64_t> end_of_loss(const RecordSnapshot&, InodeId, uint64_t first);

// Records that cannot be runs: stored under another block, empty, or longer than any stripe.
bool is_run(std::string_view key, const pb::Run&);

// The record with what can be told from the rest of it set right, if that makes it valid.
std::optional<pb::Stripe> corrected(pb::Stripe, StripeId);

}  // namespace datacloud
