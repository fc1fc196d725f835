// Who uses the slots of a stripe. Every run of a file that names a stripe has exactly one
// reference:
//   `R` stripe, slot                     the first user of these slots
//   `J` stripe, slot, inode, block       a further one: a clone shares the slots with another file
//
// Invariants: `R` records of a stripe do not overlap; a slot is live while any reference covers it;
// StripeLive.shared counts the `J` records. When the run of an `R` goes its `J`s stay: none takes
// its place. While `shared` is 0, which is so wherever nothing was cloned, no `J` is looked for.
//
// Functions of the loop, pure changes of a transaction. corrupt: a record does not parse.
#pragma once

#include <cstdint>
#include <vector>

#include "daemon/metadata/metadata_store.h"

namespace datacloud::stripes {

// Most `J` records of one stripe: what moves a slot moves all its users in one transaction. A clone
// that would need more is refused (no_space), and its data are copied.
inline constexpr uint32_t kSharedReferencesMax = 4096;

// A reference as a record: its slots are first_slot .. first_slot + owner.count() - 1.
struct Reference {
  uint32_t first_slot = 0;
  pb::Owner owner;
};

// What the reverse map says of a run.
pb::Owner owner_of(InodeId, const pb::Run&);

// Of a run that goes: erases its reference. What must be known of it afterwards:
struct ErasedReference {
  bool further = false;  // it was a `J`
  bool shared = false;   // the stripe had any: its slots may have other users
};
result<ErasedReference> erase_reference(Transaction&, InodeId, const pb::Run&);
// Of a part of such a run that stays.
result<void> keep_reference(Transaction&, InodeId, const pb::Run& part, const ErasedReference&);

// All references of the stripe, in the order of their slots.
result<std::vector<Reference>> references(const Transaction&, StripeId, bool shared);
// Which of the slots first .. first + count - 1 a reference covers.
result<std::vector<bool>> covered_slots(const Transaction&, StripeId, uint32_t first, size_t count,
                                        bool shared);

}  // namespace datacloud::stripes
