// What the block map functions share: stripes with their live counts, and the changes of slots
// becoming live or dead.
#pragma once

#include <cstdint>

#include "daemon/records/block_map.h"
#include "daemon/records/slot_references.h"

namespace datacloud::stripes {

inline constexpr uint32_t kShardBytesMax = 64u << 20;

// `count` slots from `first` on, all of one stripe.
struct SlotRange {
  StripeId stripe = 0;
  uint32_t first = 0;
  uint32_t count = 0;
};

// The slots of the run become mapped, and it gets its reference. invalid: no such stripe, slots
// beyond its end, or (`alone`) already mapped. `shared`: slots may have users already; `cloned`:
// all have. no_space: the stripe is shared too often.
result<void> map_slots(Transaction&, InodeId, const pb::Run&, SlotUse, Totals&);
// No reference covers the slots any more. A stripe without live slots is dropped.
result<void> unmap_slots(Transaction&, const SlotRange&, Totals&);
// Counts the live slots of a stripe that is shared anew, from its references. A stripe without any
// is dropped.
result<void> recount_slots(Transaction&, StripeId, Totals&);
// Whose contents dead slots were until new data displaced them: what a fold looks for (F records).
void remember_former(Transaction&, const SlotRange&, const pb::Owner&);
// The stripe has no live slot. Without group it is erased; a group's member stays until the row
// counts it no more (stripe_groups.h); with a row its whole group is dissolved.
result<void> drop_stripe(Transaction&, StripeId, Totals&);
// Erases the stripe with all its records; its objects become pending deletions. For drop_stripe and
// stripe_groups only: nobody asks whether a row counts it.
result<void> erase_stripe(Transaction&, StripeId, Totals&);
// All objects the record names become pending deletions.
result<void> delete_objects(Transaction&, const pb::Stripe&);
// Puts a record under a new id, counts it and queues it if it needs repair. exists.
result<void> add_record(Transaction&, const pb::Stripe&);

// Puts a changed record of a stripe that exists and counts the change.
result<void> replace_record(Transaction&, const pb::Stripe& old_record,
                            const pb::Stripe& new_record);

}  // namespace datacloud::stripes
