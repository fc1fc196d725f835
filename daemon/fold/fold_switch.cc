// Records and map in one transaction; damage and abandoned names in others.
#include "daemon/fold/fold_switch.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/fold/slot_users.h"
#include "daemon/jobs/shard_switch.h"
#include "daemon/records/block_map.h"
#include "daemon/records/stripe_records.h"

namespace datacloud {
namespace {

using Kind = FoldOutcome::Kind;

class Switch {
 public:
  Switch(BackgroundContext& context, const FoldSnapshot& now, const std::vector<size_t>& folded,
         const std::vector<FoldedColumn>& objects, FoldOutcome& outcome)
      : context_(context), now_(now), folded_(folded), objects_(objects), outcome_(outcome) {}

  // On the loop. False: a record changed, or a column was found bad meanwhile.
  result<bool> switch_over() {
    Transaction txn = context_.store.begin();
    const auto duties = context_.duties();
    TRY(const bool base, switch_stripe(txn, now_.base, duties));
    if (!base) return false;
    if (now_.row) {
      TRY(const bool row, switch_stripe(txn, *now_.row, duties));
      if (!row) return false;
    }
    TRY(shorten_slots(txn));
    TRY(move_blocks(txn));
    TRY(context_.committer.apply(std::move(txn)));
    context_.collect();
    return true;
  }

  result<bool> switch_stripe(Transaction& txn, const pb::Stripe& expected,
                             const SiteDuties& duties) {
    TRY(const auto needs, stripe_needs(txn, expected, duties));
    std::vector<ShardSwitch> switches;
    for (const auto& object : objects_) {
      if (object.stripe != &expected) continue;
      if (contains(needs.bad, object.column)) return false;
      ShardSwitch change{object.column, expected.shards(object.column)};
      change.shard.set_instance(object.instance);
      set_versions(change.shard, object.versions);
      switches.push_back(std::move(change));
    }
    return switch_shards(txn, expected, switches, duties);
  }

  // The slots were dead; each gets the length of the block that it holds now.
  result<void> shorten_slots(Transaction& txn) {
    TRY(const auto switched, get_stripe(txn, now_.base.id()));
    pb::Stripe stripe = *switched;
    for (const size_t i : folded_) {
      const auto& update = now_.updates[i];
      stripe.set_slot_length(static_cast<int>(update.base_slot), update.new_bytes);
    }
    return stripes::replace_record(txn, *switched, stripe);
  }

  result<void> move_blocks(Transaction& txn) {
    for (const size_t i : folded_) {
      const auto& update = now_.updates[i];
      TRY(const auto runs, runs_of(txn, update.ino, update.block, 1));
      if (runs.size() != 1 || runs[0].stripe() != update.source ||
          runs[0].first_slot() != update.source_slot || runs[0].version() != update.version) {
        ++outcome_.blocks_changed;
        continue;
      }
      // Together with all clones that have come to share the slot since the update was written.
      TRY(const auto users, users_with(txn, update.ino, runs[0]));
      if (std::any_of(users.begin(), users.end(),
                      [](const SlotUser& user) { return user.patches > 0; })) {
        ++outcome_.blocks_changed;
        continue;
      }
      for (const auto& user : users) {
        pb::InodeUpdate change;
        change.set_ino(user.ino);
        *change.add_runs() = user.run_at(now_.base.id(), update.base_slot);
        TRY(update_inode(txn, change, Displaced::moved,
                         users.size() > 1 ? SlotUse::shared : SlotUse::alone));
        ++outcome_.blocks_folded;
      }
    }
    return success();
  }

 private:
  BackgroundContext& context_;
  const FoldSnapshot& now_;
  const std::vector<size_t>& folded_;
  const std::vector<FoldedColumn>& objects_;
  FoldOutcome& outcome_;
};

// Shards whose record has changed since the snapshot are not reported as damaged.
result<void> report_damage(BackgroundContext& context,
                           const std::vector<const ShardParts*>& failed) {
  return context.threads.on_loop<void>([&]() -> result<void> {
    Transaction txn = context.store.begin();
    for (const auto* part : failed) {
      if (!part->failed->damaged) continue;
      const auto& shard = part->stripe->shards(part->column);
      const ShardName name{part->stripe->id(), static_cast<uint8_t>(part->column),
                           shard.instance()};
      const auto& error = part->failed->error;
      TRY(record_damage(txn, damage_of(name, shard.site(),
                                       error.is(Errc::not_found) ? "missing" : error.message())));
    }
    if (txn.empty()) return success();
    return context.committer.apply(std::move(txn));
  });
}

}  // namespace

result<void> switch_fold(BackgroundContext& context, const FoldSnapshot& now,
                         const std::vector<size_t>& folded,
                         const std::vector<FoldedColumn>& objects, FoldOutcome& outcome) {
  Switch change(context, now, folded, objects, outcome);
  TRY(const bool switched, context.threads.on_loop<bool>([&] { return change.switch_over(); }));
  outcome.kind = switched ? Kind::folded : Kind::changed;
  return switched ? result<void>(success()) : abandon_fold(context, now, objects);
}

result<void> abandon_fold(BackgroundContext& context, const FoldSnapshot& now,
                          const std::vector<FoldedColumn>& objects) {
  std::vector<NewShard> base, row;
  for (const auto& object : objects) {
    const auto& shard = object.stripe->shards(object.column);
    (object.stripe == &now.base ? base : row)
        .push_back({object.column, shard.site(), object.instance, nullptr});
  }
  TRY(abandon_shards(context, now.base.id(), base));
  return row.empty() ? result<void>(success()) : abandon_shards(context, now.row->id(), row);
}

result<bool> accept_parts(BackgroundContext& context, const std::vector<ShardParts>& parts,
                          FoldOutcome& outcome) {
  std::vector<const ShardParts*> failed;
  for (const auto& part : parts) {
    if (part.failed) failed.push_back(&part);
  }
  if (failed.empty()) return true;
  const auto& first = *failed.front();
  outcome.kind = Kind::blocked;
  outcome.reason = fmt::format(
      "stripe {} column {} at site {}: {}", first.stripe->id(), first.column,
      context.site_name(first.stripe->shards(first.column).site()), first.failed->error.message());
  TRY(report_damage(context, failed));
  return false;
}

}  // namespace datacloud
