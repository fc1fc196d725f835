// Stripes, their live counts, and their end: pending deletions and damage.
#include "daemon/records/stripe_records.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/codes/erasure_code.h"
#include "common/stripe/shard_size.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/repair_queue.h"
#include "daemon/records/stripe_groups.h"

namespace datacloud {
namespace {

constexpr size_t kReasonBytesMax = 512;

Error invalid_stripe(const pb::Stripe& stripe, const std::string& what) {
  return Error(Errc::invalid, "stripe " + std::to_string(stripe.id()) + ": " + what);
}

std::string column_text(int column) { return "shard " + std::to_string(column); }

result<void> check_shard(const pb::Stripe& stripe, int column, bool data) {
  const pb::Shard& shard = stripe.shards(column);
  const std::string name = column_text(column);
  if (shard.bytes() > stripes::kShardBytesMax) {
    return failure(invalid_stripe(stripe, name + " is longer than 64 MiB"));
  }
  switch (shard.state()) {
    case pb::SHARD_EMPTY:
      if (!data) return failure(invalid_stripe(stripe, name + " is parity and cannot be empty"));
      if (shard.bytes() != 0 || shard.instance() != 0) {
        return failure(invalid_stripe(stripe, name + " is empty but has bytes or an instance"));
      }
      return success();
    case pb::SHARD_PRESENT:
      if (shard.instance() == 0) {
        return failure(invalid_stripe(stripe, name + " is present without an instance"));
      }
      if (shard.site() == 0) return failure(invalid_stripe(stripe, name + " is at no site"));
      break;
    case pb::SHARD_MISSING:
      break;
    default:
      return failure(invalid_stripe(stripe, name + " has an unknown state"));
  }
  if (shard.bytes() == 0) return failure(invalid_stripe(stripe, name + " has no bytes"));
  if (data && shard.bytes() > stripe.parity_bytes()) {
    return failure(invalid_stripe(stripe, name + " is longer than parity_bytes"));
  }
  if (!data && shard.bytes() != stripe.parity_bytes()) {
    return failure(invalid_stripe(stripe, name + " is not parity_bytes long"));
  }
  return success();
}

result<void> check_members(const pb::Stripe& row) {
  if (row.slot_column_size() + row.slot_offset_size() + row.slot_length_size() > 0) {
    return failure(invalid_stripe(row, "an XOR row has no slots"));
  }
  if (row.row() != 0) return failure(invalid_stripe(row, "an XOR row is in no group"));
  if (row.members_size() < 2 || row.members_size() > kGroupMembersMax) {
    return failure(
        invalid_stripe(row, std::to_string(row.members_size()) + " members; 2 to 15 are allowed"));
  }
  std::vector<StripeId> ids(row.members().begin(), row.members().end());
  std::sort(ids.begin(), ids.end());
  if (std::adjacent_find(ids.begin(), ids.end()) != ids.end() || ids.front() == 0 ||
      ids.back() > kStripeIdMax || std::binary_search(ids.begin(), ids.end(), row.id())) {
    return failure(invalid_stripe(row, "a member is named twice, or is no stripe"));
  }
  return success();
}

result<void> check_slots(const pb::Stripe& stripe, int k) {
  const int count = stripe.slot_column_size();
  if (count != stripe.slot_offset_size() || count != stripe.slot_length_size()) {
    return failure(invalid_stripe(stripe, "slot arrays differ in length"));
  }
  if (count == 0 || count > static_cast<int>(kStripeSlotsMax)) {
    return failure(invalid_stripe(stripe, std::to_string(count) + " slots; 1 to " +
                                              std::to_string(kStripeSlotsMax) + " are allowed"));
  }
  std::vector<Slot> slots(count);
  for (int i = 0; i < count; ++i) {
    slots[i] = {stripe.slot_column(i), stripe.slot_offset(i), stripe.slot_length(i)};
    if (slots[i].length == 0) {
      return failure(invalid_stripe(stripe, "slot " + std::to_string(i) + " is empty"));
    }
  }
  std::vector<uint32_t> lengths(k);
  for (int c = 0; c < k; ++c) lengths[c] = stripe.shards(c).bytes();
  if (auto valid = validate_slots(slots, k, lengths); !valid) {
    return failure(invalid_stripe(stripe, valid.error().text()));
  }
  return success();
}

// What one stripe adds to the totals besides its live bytes.
void count_stripe(const pb::Stripe& stripe, bool add, Totals& totals) {
  const uint64_t sign = add ? 1 : ~uint64_t{0};
  totals.stripes += sign;
  if (stripe.weak()) totals.stripes_weak += sign;
  for (const auto& shard : stripe.shards()) {
    if (shard.state() == pb::SHARD_MISSING) totals.shards_missing += sign;
    if (shard.state() == pb::SHARD_PRESENT) totals.stored_bytes += sign * shard.bytes();
  }
}

result<Transaction::ParsedStripe> require_stripe(const Transaction& txn, StripeId id) {
  TRY(auto stripe, txn.stripe(key::stripe(id)));
  if (!stripe.record)
    return failure(Errc::invalid, "stripe " + std::to_string(id) + " does not exist");
  return stripe;
}

// The number of the next pending deletion: kept in a record, never given twice, so that a deletion
// in progress is never taken for another.
result<uint64_t> next_pending(const Transaction& txn) {
  TRY(const auto value, txn.get(key::meta("next_pending")));
  if (!value) return uint64_t{1};
  if (value->size() != 8) {
    return failure(Errc::corrupt, "metadata record Anext_pending is not 8 bytes long");
  }
  return key::u64_at(*value, 0);
}

result<void> erase_range(Transaction& txn, const std::string& prefix) {
  std::vector<std::string> keys;
  TRY(txn.scan(prefix, key::after_prefix(prefix), [&](std::string_view k, std::string_view) {
    keys.emplace_back(k);
    return true;
  }));
  for (const auto& k : keys) txn.erase(k);
  return success();
}

// The keys below are those of one stripe without the last part.
std::string owners_of(StripeId id) { return key::owner(id, 0).substr(0, 9); }
std::string shared_of(StripeId id) { return key::shared(id, 0, 0, 0).substr(0, 9); }
std::string damages_of(StripeId id) { return key::damage(id, 0).substr(0, 9); }

}  // namespace

result<void> validate_stripe(const pb::Stripe& stripe) {
  if (stripe.id() == 0 || stripe.id() > kStripeIdMax) {
    return failure(invalid_stripe(stripe, "id out of range"));
  }
  auto code = make_erasure_code(stripe.code());
  if (!code) return failure(invalid_stripe(stripe, code.error().text()));
  const int k = code.value()->k(), n = code.value()->n();
  if (stripe.shards_size() != n) {
    return failure(invalid_stripe(stripe, std::to_string(stripe.shards_size()) + " shards, " +
                                              stripe.code() + " has " + std::to_string(n)));
  }
  if (stripe.parity_bytes() == 0 || stripe.parity_bytes() > stripes::kShardBytesMax) {
    return failure(invalid_stripe(stripe, "parity_bytes out of range"));
  }
  if (!is_recorded_shard_bytes(stripe.shard_bytes())) {
    return failure(invalid_stripe(stripe, "shards of " + std::to_string(stripe.shard_bytes()) +
                                              " bytes are no size of shards"));
  }
  for (int c = 0; c < n; ++c) {
    TRY(check_shard(stripe, c, c < k));
  }
  if (stripe.row() == stripe.id() || stripe.row() > kStripeIdMax) {
    return failure(invalid_stripe(stripe, "its row's id is out of range"));
  }
  return is_row(stripe) ? check_members(stripe) : check_slots(stripe, k);
}

result<void> add_stripe(Transaction& txn, const pb::Stripe& stripe) {
  TRY(validate_stripe(stripe));
  if (is_row(stripe) || stripe.row() != 0) {
    return failure(invalid_stripe(stripe, "groups are made of stripes that exist: add its row"));
  }
  TRY(stripes::add_record(txn, stripe));
  txn.put(key::live(stripe.id()), pb::StripeLive());
  return success();
}

result<std::optional<pb::Stripe>> get_stripe(const Transaction& txn, StripeId id) {
  TRY(const auto stripe, txn.stripe(key::stripe(id)));
  return stripe.record ? std::optional(*stripe.record) : std::nullopt;
}

result<bool> is_kept(const Transaction& txn, StripeId id) {
  TRY(const auto quarantined, txn.get(key::quarantine(key::stripe(id))));
  if (quarantined) return true;
  bool named = false;
  for (const auto& prefix : {owners_of(id), shared_of(id)}) {
    TRY(txn.scan(prefix, key::after_prefix(prefix), [&](auto, auto) {
      named = true;
      return false;
    }));
  }
  return named;
}

result<void> drop_unmapped_stripes(Transaction& txn, const std::vector<StripeId>& ids) {
  TRY(auto totals, read_totals(txn));
  for (const StripeId id : ids) {
    pb::StripeLive live;
    TRY(const bool found, txn.get(key::live(id), live));
    if (found && live.slots() == 0) {
      TRY(stripes::drop_stripe(txn, id, totals));
    }
  }
  write_totals(txn, totals);
  return success();
}

result<void> add_pending_deletion(Transaction& txn, const pb::PendingDeletion& deletion) {
  TRY(const uint64_t number, next_pending(txn));
  txn.put(key::pending(number), deletion);
  txn.put(key::meta("next_pending"), key::pending(number + 1).substr(1));
  return success();
}

pb::Damage damage_of(const ShardName& shard, SiteId site, const std::string& reason) {
  pb::Damage damage;
  damage.set_stripe(shard.stripe);
  damage.set_column(shard.column);
  damage.set_instance(shard.instance);
  damage.set_site(site);
  damage.set_reason(reason);
  damage.set_found_ns(wall_now_ns());
  return damage;
}

result<void> record_damage(Transaction& txn, const pb::Damage& damage) {
  TRY(const auto parsed, txn.stripe(key::stripe(damage.stripe())));
  const auto& stripe = parsed.record;
  if (!stripe) return success();  // dropped since the reader saw it
  if (damage.column() >= static_cast<uint32_t>(stripe->shards_size())) {
    return failure(Errc::invalid, "damage of stripe " + std::to_string(damage.stripe()) +
                                      " names column " + std::to_string(damage.column()));
  }
  const pb::Shard& shard = stripe->shards(static_cast<int>(damage.column()));
  if (shard.state() == pb::SHARD_EMPTY || shard.instance() != damage.instance()) {
    return success();  // replaced since
  }
  pb::Damage record = damage;
  if (record.reason().size() > kReasonBytesMax) record.mutable_reason()->resize(kReasonBytesMax);
  txn.put(key::damage(damage.stripe(), damage.column()), record);
  return enqueue_repair(txn, *stripe);
}

namespace stripes {
namespace {

Error mapped_already(const SlotRange& range) {
  return Error(Errc::invalid, "stripe " + std::to_string(range.stripe) + ": slot " +
                                  std::to_string(range.first) + " is mapped already");
}

// The predecessor of the range's end tells whether a mapped run reaches into it. (Of a stripe
// whose slots have one user each.)
result<void> check_unmapped(const Transaction& txn, const SlotRange& range, bool added_here) {
  const std::string first = key::owner(range.stripe, 0);
  const std::string end = key::owner(range.stripe, range.first + range.count);
  auto before = txn.last_change(first, end);
  if (!added_here) {
    TRY(before, txn.last(first, end));
  }
  if (!before) return success();
  pb::Owner owner;
  if (!owner.ParseFromString(before->second)) {
    return failure(Errc::corrupt, "reverse map of stripe " + std::to_string(range.stripe));
  }
  if (uint64_t{key::u32_at(before->first, 9)} + owner.count() <= range.first) return success();
  return failure(mapped_already(range));
}

// Slots that are mapped again have no former owner any more; records that reach beyond are cut.
result<void> forget_former(Transaction& txn, const SlotRange& range) {
  struct Record {
    uint32_t first;
    pb::Owner owner;
  };
  const uint32_t end = range.first + range.count;
  std::vector<Record> records;
  const auto take = [&](std::string_view k, std::string_view v) {
    if (k.size() != 13) return true;  // damaged: fsck erases it
    Record record{key::u32_at(k, 9), {}};
    if (record.owner.ParseFromArray(v.data(), static_cast<int>(v.size())) &&
        uint64_t{record.first} + record.owner.count() > range.first) {
      records.push_back(std::move(record));
    }
    return true;
  };
  TRY(const auto before,
      txn.last(key::former(range.stripe, 0), key::former(range.stripe, range.first)));
  if (before) take(before->first, before->second);
  TRY(txn.scan(key::former(range.stripe, range.first), key::former(range.stripe, end), take));
  for (const auto& [first, owner] : records) {
    txn.erase(key::former(range.stripe, first));
    if (first < range.first) {
      pb::Owner head = owner;
      head.set_count(range.first - first);
      txn.put(key::former(range.stripe, first), head);
    }
    if (first + owner.count() > end) {
      pb::Owner tail = owner;
      tail.set_first_block(owner.first_block() + (end - first));
      if (owner.version() != 0) tail.set_version(owner.version() + (end - first));
      tail.set_count(first + owner.count() - end);
      txn.put(key::former(range.stripe, end), tail);
    }
  }
  return success();
}

uint64_t sealed_bytes(const pb::Stripe& stripe, const SlotRange& range) {
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < range.count; ++i) {
    bytes += stripe.slot_length(static_cast<int>(range.first + i));
  }
  return bytes;
}

}  // namespace

result<void> map_slots(Transaction& txn, InodeId ino, const pb::Run& run, SlotUse use,
                       Totals& totals) {
  const SlotRange range{run.stripe(), run.first_slot(), run.count()};
  TRY(const auto parsed, require_stripe(txn, range.stripe));
  const auto& stripe = parsed.record;
  const auto slots = static_cast<uint64_t>(stripe->slot_length_size());
  if (uint64_t{range.first} + range.count > slots) {
    return failure(Errc::invalid, "stripe " + std::to_string(range.stripe) + " has " +
                                      std::to_string(slots) + " slots, a run names slot " +
                                      std::to_string(uint64_t{range.first} + range.count - 1));
  }
  pb::StripeLive live;
  TRY(txn.get(key::live(range.stripe), live));
  std::vector<bool> covered;
  if (use == SlotUse::cloned) {
    if (live.slots() == 0) {
      return failure(Errc::corrupt, "stripe " + std::to_string(range.stripe) +
                                        " has no live slots, and a file uses some of them; stop "
                                        "the daemon and run `datacloud fsck`");
    }
    covered.assign(range.count, true);  // by the source
  } else if (live.slots() > 0 && (use == SlotUse::shared || live.shared() > 0)) {
    TRY(covered, covered_slots(txn, range.stripe, range.first, range.count, live.shared() > 0));
  } else if (live.slots() > 0) {
    TRY(check_unmapped(txn, range, parsed.added_here));
  }
  ErasedReference as;  // a further one when any of its slots has a user
  uint32_t fresh = 0;
  uint64_t bytes = 0;
  for (uint32_t slot = range.first; slot < range.first + range.count; ++slot) {
    if (!covered.empty() && covered[slot - range.first]) {
      as.further = true;
      continue;
    }
    ++fresh;
    bytes += stripe->slot_length(static_cast<int>(slot));
  }
  if (as.further && use == SlotUse::alone) return failure(mapped_already(range));
  if (as.further && live.shared() >= kSharedReferencesMax) {
    return failure(Errc::no_space, "stripe " + std::to_string(range.stripe) + " is shared " +
                                       std::to_string(kSharedReferencesMax) +
                                       " times, the most that is allowed: copy the data");
  }
  if (!parsed.added_here && fresh > 0) {  // of live slots there is none
    TRY(forget_former(txn, range));
  }
  live.set_slots(live.slots() + fresh);
  live.set_bytes(live.bytes() + bytes);
  totals.live_bytes += bytes;
  txn.put(key::live(range.stripe), live);
  return keep_reference(txn, ino, run, as);
}

result<void> unmap_slots(Transaction& txn, const SlotRange& range, Totals& totals) {
  TRY(const auto parsed, require_stripe(txn, range.stripe));
  const auto& stripe = parsed.record;
  pb::StripeLive live;
  TRY(txn.get(key::live(range.stripe), live));
  const uint64_t bytes = sealed_bytes(*stripe, range);
  if (live.slots() < range.count || live.bytes() < bytes) {
    return failure(Errc::corrupt, "stripe " + std::to_string(range.stripe) +
                                      ": more slots are unmapped than live; stop the daemon");
  }
  live.set_slots(live.slots() - range.count);
  live.set_bytes(live.bytes() - bytes);
  totals.live_bytes -= bytes;
  if (live.slots() == 0) return drop_stripe(txn, range.stripe, totals);
  txn.put(key::live(range.stripe), live);
  return success();
}

result<void> recount_slots(Transaction& txn, StripeId id, Totals& totals) {
  TRY(const auto parsed, require_stripe(txn, id));
  const auto& stripe = *parsed.record;
  pb::StripeLive live;
  TRY(txn.get(key::live(id), live));
  TRY(const auto covered,
      covered_slots(txn, id, 0, static_cast<size_t>(stripe.slot_length_size()), true));
  uint32_t slots = 0;
  uint64_t bytes = 0;
  for (size_t slot = 0; slot < covered.size(); ++slot) {
    if (!covered[slot]) continue;
    ++slots;
    bytes += stripe.slot_length(static_cast<int>(slot));
  }
  totals.live_bytes += bytes - live.bytes();
  live.set_slots(slots);
  live.set_bytes(bytes);
  if (slots == 0) return drop_stripe(txn, id, totals);
  txn.put(key::live(id), live);
  return success();
}

void remember_former(Transaction& txn, const SlotRange& range, const pb::Owner& owner) {
  txn.put(key::former(range.stripe, range.first), owner);
}

// A mount that has not heard yet of a site's draining writes to it still.
result<void> add_record(Transaction& txn, const pb::Stripe& stripe) {
  TRY(const auto existing, txn.get(key::stripe(stripe.id())));
  if (existing) {
    return failure(Errc::exists, "stripe " + std::to_string(stripe.id()) + " exists already");
  }
  txn.put(key::stripe(stripe.id()), stripe);
  TRY(auto totals, read_totals(txn));
  count_stripe(stripe, true, totals);
  write_totals(txn, totals);
  const bool whole = std::all_of(stripe.shards().begin(), stripe.shards().end(), [](const auto& s) {
    return s.state() == pb::SHARD_EMPTY ||
           (s.state() == pb::SHARD_PRESENT && (s.home_site() == 0 || s.home_site() == s.site()));
  });
  TRY(const SiteDuties duties, stored_duties(txn));
  return whole && duties.empty() ? success() : enqueue_repair(txn, stripe, duties);
}

result<void> drop_stripe(Transaction& txn, StripeId id, Totals& totals) {
  TRY(const auto parsed, require_stripe(txn, id));
  const auto stripe = parsed.record;
  if (is_row(*stripe)) return dissolve_group(txn, id, totals);
  if (stripe->row() == 0) return erase_stripe(txn, id, totals);
  TRY(erase_range(txn, key::former(id, 0).substr(0, 9)));  // nothing is folded into the dead
  return member_died(txn, *stripe, totals);
}

result<void> delete_objects(Transaction& txn, const pb::Stripe& stripe) {
  for (int c = 0; c < stripe.shards_size(); ++c) {
    const pb::Shard& shard = stripe.shards(c);
    if (shard.state() == pb::SHARD_EMPTY || shard.instance() == 0) continue;
    pb::PendingDeletion deletion;
    deletion.set_stripe(stripe.id());
    deletion.set_column(static_cast<uint32_t>(c));
    deletion.set_instance(shard.instance());
    deletion.set_site(shard.site());
    deletion.set_bytes(shard.bytes());
    TRY(add_pending_deletion(txn, deletion));
  }
  return success();
}

result<void> erase_stripe(Transaction& txn, StripeId id, Totals& totals) {
  TRY(const auto parsed, require_stripe(txn, id));
  const auto stripe = parsed.record;
  TRY(delete_objects(txn, *stripe));
  count_stripe(*stripe, false, totals);
  pb::StripeLive live;
  TRY(txn.get(key::live(id), live));
  if (live.shared() > 0) {
    TRY(erase_range(txn, shared_of(id)));
  }
  txn.erase(key::stripe(id));
  txn.erase(key::live(id));
  TRY(erase_range(txn, owners_of(id)));
  TRY(erase_range(txn, key::former(id, 0).substr(0, 9)));
  return erase_range(txn, damages_of(id));
}

result<void> replace_record(Transaction& txn, const pb::Stripe& old_record,
                            const pb::Stripe& new_record) {
  DC_CHECK(old_record.id() == new_record.id(), "one stripe's record in another's place");
  TRY(validate_stripe(new_record));
  TRY(auto totals, read_totals(txn));
  count_stripe(old_record, false, totals);
  count_stripe(new_record, true, totals);
  write_totals(txn, totals);
  txn.put(key::stripe(new_record.id()), new_record);
  return success();
}

}  // namespace stripes
}  // namespace datacloud
