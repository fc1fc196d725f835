// One base stripe takes in the updates that supersede blocks of it, by parity delta: new instances
// of the touched columns are derived at their sites from the old ones and the change, so that only
// changes travel. A job of the background threads; blocks.
//
// Nothing is built upon that was not verified by tag: a dead slot that rotted is recorded as damage
// and repaired before its column is folded into. The switch is one transaction, conditional on the
// records the fold was computed from, and moves exactly the blocks whose map entry is still the one
// that was read. Whatever fails before it leaves everything as it was; names made are abandoned.
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
