// The end of a stripe's puts: the record of a stripe that has its quorum, or the failure.
//
// Invariant (the one rule): the record calls a shard present only when its put has succeeded; an
// unfinished or failed shard is missing and has no instance, so no name. See stripe_putter.cc.
#include <algorithm>
#include <utility>

#include "fs/write/stripe_putter.h"

namespace datacloud {
namespace {

constexpr size_t kReasonBytesMax = 200;  // of a site's answer, in the text of a failure

}  // namespace

ShardsHeld StripePutter::held() const {
  ShardsHeld held{.empty = empty_};
  for (const Column& column : columns_) {
    held.site_of_column.push_back(column.durable ? column.site : 0);
  }
  return held;
}

bool StripePutter::quorum() const {
  return has_write_quorum(*code_, held(),
                          {.sites_min = context_->sites_min, .sites_live = usable_sites()});
}

void StripePutter::succeed(Actions& actions) {
  actions.outcome = record();
  close(actions);
}

void StripePutter::fail(Actions& actions) {
  actions.outcome = cause();
  for (int c = 0; c < code_->n(); ++c) {
    const Column& column = columns_[static_cast<size_t>(c)];
    if (column.durable) abandon(c, column.site, column.instance, actions);
  }
  close(actions);
}

void StripePutter::close(Actions& actions) {
  closed_ = true;
  actions.freed = std::exchange(built_, {});
  for (const Column& column : columns_) {
    for (const SiteId site : column.pending) context_->budget.late_begins(site, column.bytes);
  }
}

pb::Stripe StripePutter::record() {
  pb::Stripe stripe;
  stripe.set_id(stripe_);
  stripe.set_code(code_->name());
  uint64_t stand_ins = 0, missing = 0, bytes = 0;
  for (int c = 0; c < code_->n(); ++c) {
    const Column& column = columns_[static_cast<size_t>(c)];
    auto& shard = *stripe.add_shards();
    shard.set_home_site(column.home);
    shard.set_bytes(column.bytes);
    if (column.durable) {
      shard.set_state(pb::SHARD_PRESENT);
      shard.set_site(column.site);
      shard.set_instance(column.instance);
      stand_ins += column.site != column.home;
      bytes += column.bytes;
    } else {
      const bool empty = contains(empty_, c);
      shard.set_state(empty ? pb::SHARD_EMPTY : pb::SHARD_MISSING);
      shard.set_site(column.home);
      missing += empty ? 0 : 1;
    }
  }
  uint64_t sealed = 0;
  for (const Slot& slot : built_.layout.slots) {
    stripe.add_slot_column(slot.column);
    stripe.add_slot_offset(slot.offset);
    stripe.add_slot_length(slot.length);
    sealed += slot.length;
  }
  stripe.set_parity_bytes(built_.layout.parity_length);
  stripe.set_shard_bytes(recorded_shard_bytes(place_.shard_bytes));
  stripe.set_home_site(place_.home_site);
  stripe.set_weak(code_->m() > 0 && !survives_any_site(*code_, held()));
  auto& counters = context_->counters;
  ++counters.stripes;
  counters.stand_ins += stand_ins;
  counters.shards_missing += missing;
  counters.shard_bytes += bytes;
  counters.sealed_bytes += sealed;
  return stripe;
}

std::string StripePutter::site_name(SiteId id) const {
  Site* site = context_->sites.find(id);
  return site != nullptr ? site->name() : "site " + std::to_string(id);
}

// Who could hold something of the stripe if those without room had some.
StripePutter::Able StripePutter::able() const {
  Able able;
  for (const auto& [site, error] : no_room_) able.no_room.emplace(site_name(site), error);
  able.known = no_room_.size();
  for (Site* site : context_->sites.all()) {
    const SiteId id = site->id();
    if (!site->up() || !site->takes_shards() || no_room_.contains(id)) continue;
    if (auto full = site->full_for(shard_bytes_)) {
      able.no_room.emplace(site->name(), std::move(*full));
      ++able.known;
      continue;
    }
    const auto refused = refused_.find(id);
    if (refused != refused_.end()) {
      able.others += "; " + refused->second.message().substr(0, kReasonBytesMax);
      continue;
    }
    const bool silent = std::any_of(columns_.begin(), columns_.end(), [&](const Column& column) {
      return std::count(column.pending.begin(), column.pending.end(), id) > 0;
    });
    if (!silent) {
      ++able.known;
      continue;
    }
    able.others += "; site " + site->name() + ": no answer yet";
    if (!deadline_over_) ++able.silent;
  }
  return able;
}

// Whether it is room that is missing does not depend on answers that are still to come.
bool StripePutter::cause_known() const {
  const Able now = able();
  return now.known >= sites_needed() || now.known + now.silent < sites_needed();
}

// Why there is no quorum: in a line, each site once.
Error StripePutter::cause() const {
  const Able now_able = able();
  const auto& no_room = now_able.no_room;
  if (!no_room.empty() && now_able.known + now_able.silent >= sites_needed()) {
    return no_room_error(no_room);
  }
  const ShardsHeld now = held();
  std::string text = "stripe " + std::to_string(stripe_) + ": " +
                     std::to_string(columns_durable(now) - __builtin_popcount(empty_)) + " of " +
                     std::to_string(stored_) + " shards could be written, on " +
                     std::to_string(sites_holding(now)) +
                     " sites (needed: " + std::to_string(sites_needed()) + ")" + now_able.others;
  for (const auto& [name, error] : no_room) text += "; " + name + ": " + error.code().message();
  const std::string away = context_->sites.describe_away();
  if (!away.empty()) text += "; away: " + away;
  return Error(Errc::unavailable, text + "; bring sites back, then write again");
}

}  // namespace datacloud
