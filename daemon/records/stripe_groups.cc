// Rows and members in step.
#include "daemon/records/stripe_groups.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"
#include "daemon/records/stripe_records.h"

namespace datacloud {
namespace {

uint64_t shard_bytes(const pb::Stripe& stripe) {
  uint64_t bytes = 0;
  for (const auto& shard : stripe.shards()) bytes += shard.bytes();
  return bytes;
}

// Each column as long as the longest of the members'.
result<void> check_lengths(const pb::Stripe& row, const std::vector<pb::Stripe>& members) {
  for (int c = 0; c < row.shards_size(); ++c) {
    uint32_t longest = 0;
    for (const auto& member : members) longest = std::max(longest, member.shards(c).bytes());
    if (row.shards(c).bytes() == longest) continue;
    return failure(Errc::invalid,
                   fmt::format("row {}: column {} has {} bytes, its members' longest has {}",
                               row.id(), c, row.shards(c).bytes(), longest));
  }
  return success();
}

// nullopt: not what the row was computed from any more.
result<std::optional<std::vector<pb::Stripe>>> members_of(
    const Transaction& txn, const pb::Stripe& row,
    const std::function<bool(const pb::Stripe&)>& unchanged) {
  std::vector<pb::Stripe> members;
  for (const StripeId id : row.members()) {
    TRY(auto member, get_stripe(txn, id));
    if (!member || member->row() != 0) return std::optional<std::vector<pb::Stripe>>();
    if (is_row(*member) || member->code() != row.code()) {
      return failure(Errc::invalid,
                     fmt::format("row {}: stripe {} cannot be a member ({}, {})", row.id(), id,
                                 member->code(), is_row(*member) ? "itself a row" : "a stripe"));
    }
    if (!unchanged(*member)) return std::optional<std::vector<pb::Stripe>>();
    members.push_back(std::move(*member));
  }
  return std::optional(std::move(members));
}

}  // namespace

result<GroupBytes> measure_group(const Transaction& txn, const pb::Stripe& row) {
  GroupBytes bytes{.row = shard_bytes(row)};
  for (const StripeId id : row.members()) {
    TRY(const auto member, get_stripe(txn, id));
    if (!member) continue;
    const uint64_t size = shard_bytes(*member);
    bytes.members += size;
    pb::StripeLive live;
    TRY(txn.get(key::live(id), live));
    if (live.slots() == 0) bytes.dead += size;
  }
  return bytes;
}

result<bool> add_row(Transaction& txn, const pb::Stripe& row,
                     const std::function<bool(const pb::Stripe& member)>& unchanged) {
  TRY(validate_stripe(row));
  if (!is_row(row)) {
    return failure(Errc::invalid, fmt::format("stripe {} has no members", row.id()));
  }
  TRY(auto members, members_of(txn, row, unchanged));
  if (!members) {
    TRY(stripes::delete_objects(txn, row));
    return false;
  }
  TRY(check_lengths(row, *members));
  TRY(stripes::add_record(txn, row));
  for (auto& member : *members) {
    member.set_row(row.id());
    txn.put(key::stripe(member.id()), member);
  }
  return true;
}

result<std::vector<pb::Stripe>> group_of(const Transaction& txn, const pb::Stripe& any) {
  const StripeId row_id = is_row(any) ? any.id() : any.row();
  if (row_id == 0) return std::vector<pb::Stripe>{any};
  TRY(auto row, get_stripe(txn, row_id));
  const auto broken = [&] {
    return failure(Errc::corrupt,
                   fmt::format("stripe {} and its group {} do not name each other; run "
                               "`datacloud fsck`",
                               any.id(), row_id));
  };
  if (!row || !is_row(*row)) return broken();
  std::vector<pb::Stripe> group;
  bool found = is_row(any);
  for (const StripeId id : row->members()) {
    TRY(auto member, get_stripe(txn, id));
    if (!member || member->row() != row_id) return broken();
    found = found || id == any.id();
    group.push_back(std::move(*member));
  }
  if (!found) return broken();
  group.push_back(std::move(*row));
  return group;
}

namespace stripes {

result<void> member_died(Transaction& txn, const pb::Stripe& member, Totals& totals) {
  txn.put(key::live(member.id()), pb::StripeLive());
  TRY(const auto row, get_stripe(txn, member.row()));
  if (!row) return erase_stripe(txn, member.id(), totals);
  TRY(const GroupBytes bytes, measure_group(txn, *row));
  return bytes.dead >= bytes.row ? dissolve_group(txn, row->id(), totals) : success();
}

result<void> dissolve_group(Transaction& txn, StripeId row_id, Totals& totals) {
  TRY(const auto row, get_stripe(txn, row_id));
  if (!row) return success();
  for (const StripeId id : row->members()) {
    TRY(auto member, get_stripe(txn, id));
    if (!member || member->row() != row_id) continue;
    pb::StripeLive live;
    TRY(txn.get(key::live(id), live));
    if (live.slots() == 0) {
      TRY(erase_stripe(txn, id, totals));
      continue;
    }
    member->set_row(0);
    txn.put(key::stripe(id), *member);
  }
  return erase_stripe(txn, row_id, totals);
}

}  // namespace stripes
}  // namespace datacloud
