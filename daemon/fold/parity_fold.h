// Folds updates into the stripe whose blocks they replace, by parity deltas: each site derives the
// new instance of its column from the old one and the change, so that only changes cross links.
// Runs as a job on the background threads and blocks.
//
// Every byte that is used was verified by its tag. A dead slot whose bytes have decayed is recorded
// as damage and repaired before its column is folded into. The switch is one transaction, which is
// made only if the records are still those the fold was computed from; it moves just the blocks
// whose map entry has not changed meanwhile. A failure before it leaves everything as it was, and
// the new objects are abandoned.
#pragma once

#include <string>
#include <vector>

#include "daemon/fold/fold_snapshot.h"

namespace datacloud {

struct FoldOutcome {
  enum class Kind {
    nothing,        // no updates to fold
    folded,         // `more` says whether there is more for this stripe
    waiting,        // its updates are young still
    blocked,        // not now; `reason` says why
    changed,        // records changed meanwhile; nothing was done
    merge,          // base and updates are better merged
    merge_updates,  // the updates do not fit, or were blocked for too long: merged without the base
    busy,           // other background work holds the stripe
  };
  Kind kind = Kind::nothing;
  std::string reason;
  bool more = false;
  std::vector<StripeId> sources;                   // that hold the updates
  uint64_t update_bytes = 0, unripe_bytes = 0;     // of all its updates; of those that are young
  uint64_t blocks_folded = 0, blocks_changed = 0;  // changed: overwritten meanwhile
  // What was read, and the changes sent: what crosses links where sites derive by themselves.
  uint64_t bytes_read = 0, change_bytes = 0;
  uint64_t bytes_between_sites = 0;  // what really did
  // Of new instances that sites made by themselves, as long as what they were copied from. Where a
  // site cannot, both cross instead and nothing is copied there.
  uint64_t bytes_copied_at_sites = 0;
};

struct FoldOptions {
  IsRipe is_ripe;               // null: all are
  bool without_unripe = false;  // fold what is ripe although more is coming
  bool blocked_too_long = false;
  double live_share_min = 0;  // a base with less live afterwards is merged
};

// unavailable: the daemon is stopping.
result<FoldOutcome> fold_stripe(BackgroundContext&, BackgroundIds&, StripeId base,
                                const FoldOptions&);

// How it would be folded now, one line per way; on the loop. Empty: there is nothing to fold.
result<std::vector<std::string>> explain_fold(const BackgroundContext&, const Transaction&,
                                              StripeId base, const FoldOptions&);

}  // namespace datacloud
