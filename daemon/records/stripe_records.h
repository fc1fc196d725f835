// What the block map functions share: stripes with their live counts, and the changes of slots
// becoming live or dead.
#pragma once

#include <cstdint>

#include "daemon/records/block_map.h"

namespace datacloud::stripes {

inline constexpr uint32_t kShardBytesMax = 64u << 20;

// `count` slots from `first` on, all of one stripe.
struct SlotRange {
  StripeId stripe = 0;
  uint32_t first = 0;
  uint32_t count = 0;
};

// What the reverse map says of a run.
pb::Owner owner_of(InodeId, const pb::Run&);
// The slots become mapped. invalid: no such stripe, slots beyond its end, or already mapped.
result<void> map_slots(Transaction&, const SlotRange&, const pb::Owner&, Totals&);
// The slots are mapped no more; the reverse map is the caller's part. A stripe without live slots
// is dropped.
result<void> unmap_slots(Transaction&, const SlotRange&, Totals&);
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
