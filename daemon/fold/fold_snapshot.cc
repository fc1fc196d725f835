// Records F say which blocks dead slots held, the map says where these are now.
#include "daemon/fold/fold_snapshot.h"

#include <algorithm>
#include <set>

#include "common/stripe/shard_size.h"
#include "daemon/fold/slot_users.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"
#include "daemon/records/slot_references.h"

namespace datacloud {
namespace {

uint64_t data_bytes(const pb::Stripe& stripe) {
  uint64_t sum = 0;
  for (const uint32_t length : stripe.slot_length()) sum += length;
  return sum;
}

// Columns that a fold cannot use: damaged or missing ones, which have to be repaired first, and
// those at sites that are away.
result<ColumnSet> unusable_columns(const BackgroundContext& context, const Transaction& txn,
                                   const pb::Stripe& stripe, const SiteDuties& duties) {
  TRY(const auto needs, stripe_needs(txn, stripe, duties));
  ColumnSet bad = needs.bad;
  for (int c = 0; c < stripe.shards_size(); ++c) {
    const auto& shard = stripe.shards(c);
    if (shard.state() != pb::SHARD_PRESENT) continue;
    Site* site = context.sites.find(shard.site());
    if (site == nullptr || !site->up()) bad |= ColumnSet{1} << c;
  }
  return bad;
}

class Gathering {
 public:
  Gathering(const BackgroundContext& context, const Transaction& txn, const IsRipe& is_ripe)
      : context_(context), txn_(txn), is_ripe_(is_ripe) {}

  result<std::optional<FoldSnapshot>> run(StripeId id) {
    TRY(auto base, get_stripe(txn_, id));
    if (!base) return std::optional<FoldSnapshot>();
    duties_ = context_.duties();
    TRY(out_.code, make_erasure_code(base->code()));
    out_.base = std::move(*base);
    TRY(out_.base_bad, unusable_columns(context_, txn_, out_.base, duties_));
    if (out_.base.row() != 0) {
      TRY(out_.row, get_stripe(txn_, out_.base.row()));
      if (!out_.row) {
        return failure(Errc::corrupt, "stripe " + std::to_string(id) + " names an XOR row that " +
                                          "does not exist; run `datacloud fsck`");
      }
      TRY(out_.row_bad, unusable_columns(context_, txn_, *out_.row, duties_));
    }
    measure_slots();
    TRY(gather_live());
    TRY(gather_updates());
    return std::optional(std::move(out_));
  }

 private:
  // The room of a slot ends where the next one of its column begins.
  void measure_slots() {
    std::map<uint32_t, std::map<uint32_t, int>> by_column;
    const auto& base = out_.base;
    for (int i = 0; i < base.slot_length_size(); ++i) {
      by_column[base.slot_column(i)][base.slot_offset(i)] = i;
    }
    room_.resize(static_cast<size_t>(base.slot_length_size()));
    taken_.resize(room_.size());
    for (const auto& [column, slots] : by_column) {
      uint32_t end = base.shards(static_cast<int>(column)).bytes();
      for (auto it = slots.rbegin(); it != slots.rend(); ++it) {
        room_[static_cast<size_t>(it->second)] = end - it->first;
        end = it->first;
      }
    }
  }

  template <class Visit>
  result<void> each_owner(const std::string& first_key, const Visit& visit) {
    const std::string prefix = first_key.substr(0, 9);
    return txn_.scan(
        prefix, key::after_prefix(prefix), [&](std::string_view k, std::string_view v) {
          pb::Owner owner;
          if (k.size() == 13 && owner.ParseFromArray(v.data(), static_cast<int>(v.size()))) {
            visit(key::u32_at(k, 9), owner);
          }
          return true;
        });
  }

  result<void> gather_live() {
    pb::StripeLive live;
    TRY(txn_.get(key::live(out_.base.id()), live));
    TRY(taken_, stripes::covered_slots(txn_, out_.base.id(), 0, room_.size(), live.shared() > 0));
    for (size_t s = 0; s < taken_.size(); ++s) {
      if (!taken_[s]) continue;
      const int slot = static_cast<int>(s);
      out_.live.push_back(
          {out_.base.slot_column(slot), out_.base.slot_offset(slot), out_.base.slot_length(slot)});
    }
    return success();
  }

  result<void> gather_updates() {
    std::vector<std::pair<uint32_t, pb::Owner>> former;
    TRY(each_owner(key::former(out_.base.id(), 0), [&](uint32_t first, const pb::Owner& owner) {
      former.push_back({first, owner});
    }));
    for (const auto& [first, owner] : former) {
      TRY(const auto runs, runs_of(txn_, owner.ino(), owner.first_block(), owner.count()));
      for (const auto& run : runs) {
        const uint64_t slot = first + (run.first_block() - owner.first_block());
        if (slot >= room_.size()) break;  // a damaged record
        TRY(add_run(run, owner.ino(), static_cast<uint32_t>(slot)));
        if (out_.updates.size() >= kFoldUpdatesMax) return success();
      }
    }
    return success();
  }

  result<void> add_run(const pb::Run& run, InodeId ino, uint32_t base_slot) {
    if (run.stripe() == out_.base.id() || !names_slots(run)) return success();
    TRY(const bool usable, add_source(run.stripe()));
    if (!usable) return success();
    const auto source = out_.sources.find(run.stripe());
    const auto& stripe = source->second;
    for (uint32_t i = 0; i < run.count(); ++i) {
      const uint32_t slot = run.first_slot() + i;
      if (base_slot + i >= room_.size() ||
          slot >= static_cast<uint32_t>(stripe.slot_length_size())) {
        break;
      }
      if (taken_[base_slot + i]) continue;  // live, or named twice: the record `F` is damaged
      if (run.patches() > 0 || patched_[run.stripe()].contains(slot)) continue;
      if (!seen_.insert({ino, run.first_block() + i}).second) continue;
      const int column = static_cast<int>(stripe.slot_column(static_cast<int>(slot)));
      if (contains(source_bad_[run.stripe()], column)) {
        ++out_.unusable;
        out_.unusable_reason = "stripe " + std::to_string(run.stripe()) + " column " +
                               std::to_string(column) + " cannot be read now";
        continue;
      }
      if (is_ripe_ && !is_ripe_(run.stripe())) {
        ++out_.unripe;
        out_.unripe_bytes += stripe.slot_length(static_cast<int>(slot));
        continue;
      }
      FoldUpdate update{
          ino, run.first_block() + i, run.version() + i, base_slot + i, {}, run.stripe(), slot, 0};
      const int at = static_cast<int>(base_slot + i);
      update.place = {out_.base.slot_column(at), out_.base.slot_offset(at),
                      room_[static_cast<size_t>(at)]};
      update.new_bytes = stripe.slot_length(static_cast<int>(slot));
      taken_[base_slot + i] = true;
      out_.updates.push_back(update);
      if (out_.updates.size() >= kFoldUpdatesMax) break;
    }
    return success();
  }

  // Only updates in stripes that are much smaller than the base are folded. Large ones stay where
  // they are, and merging frees the space of the blocks they replaced.
  result<bool> add_source(StripeId id) {
    if (out_.sources.contains(id)) return true;
    if (large_.contains(id)) return false;
    TRY(auto stripe, get_stripe(txn_, id));
    if (!stripe || 2 * data_bytes(*stripe) > data_bytes(out_.base)) {
      large_.insert(id);
      return false;
    }
    TRY(source_bad_[id], unusable_columns(context_, txn_, *stripe, duties_));
    pb::StripeLive live;
    TRY(txn_.get(key::live(id), live));
    if (live.shared() > 0) {  // another user of the slot may have patches
      TRY(const auto users, users_of_slots(txn_, id));
      patched_[id] = patched_slots(users);
    }
    out_.sources[id] = std::move(*stripe);
    return true;
  }

  const BackgroundContext& context_;
  const Transaction& txn_;
  const IsRipe& is_ripe_;
  FoldSnapshot out_;
  SiteDuties duties_;
  std::vector<uint32_t> room_;  // by slot
  std::vector<bool> taken_;     // by live blocks and updates
  std::map<StripeId, ColumnSet> source_bad_;
  std::map<StripeId, std::set<uint32_t>> patched_;  // of shared sources: slots that stay
  std::set<StripeId> large_;
  std::set<std::pair<InodeId, uint64_t>> seen_;
};

FoldColumns columns_of(const pb::Stripe& stripe, ColumnSet bad) {
  FoldColumns columns;
  columns.parity_bytes = stripe.parity_bytes();
  columns.damaged = bad;
  for (const auto& shard : stripe.shards()) {
    columns.shard_bytes.push_back(shard.bytes());
    columns.sites.push_back(shard.site());
  }
  return columns;
}

}  // namespace

FoldProblem FoldSnapshot::problem(const BackgroundContext& context) const {
  FoldProblem problem{*code, columns_of(base, base_bad), live, std::nullopt, {}};
  if (row) problem.xor_row = columns_of(*row, row_bad);
  for (const auto& update : updates) {
    const auto& source = sources.at(update.source);
    const auto column = source.slot_column(static_cast<int>(update.source_slot));
    problem.updates.push_back(
        {update.place, update.new_bytes, source.shards(static_cast<int>(column)).site()});
  }
  problem.local_site = context.local_site;
  // Sealed columns are a little longer than the plain bytes they were filled with.
  problem.shard_bytes_max =
      std::max<uint64_t>(shard_bytes_of(base.shard_bytes()), base.parity_bytes());
  return problem;
}

result<std::optional<FoldSnapshot>> fold_snapshot(const BackgroundContext& context,
                                                  const Transaction& txn, StripeId base,
                                                  const IsRipe& is_ripe) {
  return Gathering(context, txn, is_ripe).run(base);
}

result<std::optional<StripeId>> next_fold_base(const Transaction& txn, StripeId from) {
  std::optional<StripeId> found;
  const std::string end = key::after_prefix(key::former(0, 0).substr(0, 1));
  TRY(txn.scan(key::former(from, 0), end, [&](std::string_view k, std::string_view) {
    if (k.size() == 13) found = key::u64_at(k, 1);
    return !found;
  }));
  return found;
}

}  // namespace datacloud
