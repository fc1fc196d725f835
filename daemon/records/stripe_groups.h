// Groups: t stripes and an XOR row over them, in the records (docs/format-metadata.md, "Groups").
//
// A member's record names its row, the row's record names its members. Column c of the row is the
// XOR of the members' column c, padded with zeros, in every snapshot: whoever changes the contents
// of a member's column changes the row's in the same transaction, or dissolves the group.
// A member without live slots stays, dead, because the row counts it; once the dead bytes of a
// group reach the size of its row, row and dead members go and the others are members no more.
#pragma once

#include <functional>
#include <vector>

#include "daemon/metadata/metadata_store.h"
#include "daemon/metadata/totals.h"

namespace datacloud {

inline constexpr int kGroupMembersMax =
    15;  // as the repair planner takes: 16 rows with the XOR row

inline bool is_row(const pb::Stripe& stripe) { return stripe.members_size() > 0; }

// Shard bytes: what a group costs, and what keeping it costs.
struct GroupBytes {
  uint64_t row = 0;
  uint64_t members = 0;  // dead ones included
  uint64_t dead = 0;
};
result<GroupBytes> measure_group(const Transaction&, const pb::Stripe& row);

// Adds an XOR row and makes its members name it. False: a member has gone, joined another group or
// is not `unchanged` any more (what the row was computed from); then the row's objects become
// pending deletions and nothing else changes. invalid: no row of these members.
result<bool> add_row(Transaction&, const pb::Stripe& row,
                     const std::function<bool(const pb::Stripe& member)>& unchanged);

// The row's record of one snapshot with all members' in the order of the row; corrupt when they do
// not name each other. For a stripe without group: the stripe alone.
result<std::vector<pb::Stripe>> group_of(const Transaction&, const pb::Stripe& any);

namespace stripes {
// A member has lost its last live slot.
result<void> member_died(Transaction&, const pb::Stripe& member, Totals&);
// The row and its dead members go; the others stay without group.
result<void> dissolve_group(Transaction&, StripeId row, Totals&);
}  // namespace stripes

}  // namespace datacloud
