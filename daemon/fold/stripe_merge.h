// Rewrites the live blocks of several stripes as new, full stripes. This frees the space of
// overwritten blocks and turns many small stripes into one. Runs as a job on the background threads
// and blocks.
//
// Sealed blocks are copied as they are, so no data key is needed. Everything read is verified by
// tag. The switch is one transaction that adds the new stripe and moves exactly the blocks whose
// map entry is still the one that was read (compare-and-move): a block overwritten meanwhile keeps
// its newer data. An old stripe is removed with its last live block.
#pragma once

#include <string>
#include <vector>

#include "daemon/fold/new_stripe.h"
#include "daemon/jobs/background_context.h"

namespace datacloud {

// A stripe as a candidate, from its records.
struct MergeCandidate {
  StripeId stripe = 0;
  StripeKind kind;
  uint64_t data_bytes = 0;  // of all slots
  uint64_t live_bytes = 0;
};

struct MergeOutcome {
  uint64_t stripes_merged = 0, stripes_made = 0;
  uint64_t blocks_moved = 0, blocks_changed = 0;  // changed: overwritten meanwhile
  uint64_t bytes_read = 0, bytes_written = 0;
  std::string obstacle;  // why some were left alone
};

// All of one kind. Returns what was done; unavailable when the daemon is stopping.
result<MergeOutcome> merge_stripes(BackgroundContext&, BackgroundIds&,
                                   const std::vector<MergeCandidate>&);

}  // namespace datacloud
