// What a commit says about stripes and files. Pure.
#pragma once

#include <memory>
#include <vector>

#include "common/proto/rpc.pb.h"
#include "fs/write/write_job.h"

namespace datacloud {

// The fewest runs that map the piece's blocks to its slots; of one for the records, a run for each
// block or patch.
std::vector<pb::Run> runs_of(const Piece&, StripeId);

// The effect of one piece on its file. A piece that is not the last grows the file only to the end
// of its last block, so that whatever is committed is a prefix of the unit.
pb::InodeUpdate update_of(const Piece&, StripeId);

// One transaction: the jobs' stripes and, in order, the updates of their units that have not been
// answered; each piece remembers its update. Call with the commit queue's lock held.
pb::Request commit_request(const std::vector<std::shared_ptr<WriteJob>>& jobs);

}  // namespace datacloud
