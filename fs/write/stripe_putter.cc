// Issue of puts, stand-ins and timers of one stripe; the record is made in stripe_putter_record.cc.
//
// Invariant: an instance id is used for one put only, and the record names an instance only after
// its put has succeeded. Stores are called without the lock: they may answer at once.
#include "fs/write/stripe_putter.h"

#include <algorithm>
#include <utility>

#include "common/base/out_of_space.h"
#include "common/tags/tag_sums.h"

namespace datacloud {
namespace {

constexpr int kPutsPerColumnMax = 4;  // the first and three stand-ins

Duration clamp(Duration d, Duration low, Duration high) {
  return std::max(low, std::min(d, std::max(low, high)));
}

}  // namespace

StripePutter::StripePutter(std::shared_ptr<PutContext> context,
                           std::shared_ptr<const ErasureCode> code, BuiltStripe built,
                           Urgency urgency, Done done, StripePlace place)
    : context_(std::move(context)),
      code_(std::move(code)),
      urgency_(urgency),
      place_(place),
      start_(monotonic_now()),
      done_(std::move(done)),
      built_(std::move(built)) {}

// Sites as placement may use them. A slow site is passed over while enough others live.
std::vector<PlacementSite> StripePutter::placement_sites() const {
  std::vector<PlacementSite> sites;
  size_t live = 0, slow = 0;
  for (Site* site : context_->sites.all()) {
    const bool usable = site->up() && site->takes_shards() && !site->full_for(shard_bytes_);
    sites.push_back({.id = site->id(), .live = usable});
    live += sites.back().live ? 1 : 0;
    slow += sites.back().live && context_->budget.slow(site->id()) ? 1 : 0;
  }
  const size_t needed =
      std::max<size_t>({1, context_->sites_min, static_cast<size_t>(sites_for_one_loss(*code_))});
  for (auto& site : sites) {
    if (slow == 0 || live - slow < needed) break;
    site.live = site.live && !context_->budget.slow(site.id);
  }
  return sites;
}

result<void> StripePutter::prepare() {
  const auto n = static_cast<size_t>(code_->n());
  ColumnSet stored_columns = 0;
  for (size_t c = 0; c < n; ++c) {
    if (built_.columns[c].size() == 0) continue;
    stored_columns |= ColumnSet{1} << c;
    shard_bytes_ = std::max<uint64_t>(shard_bytes_, built_.columns[c].size());
  }
  stored_ = static_cast<uint32_t>(__builtin_popcount(stored_columns));
  if (auto full = context_->sites.out_of_space(shard_bytes_, sites_needed())) {
    return failure(std::move(*full));
  }
  const auto sites = placement_sites();
  TRY(const StripeId stripe, context_->ids.take(IdKind::stripe));
  stripe_ = stripe;
  TRY(const Placement placement, place_columns(*code_, sites, place_.rotation.value_or(stripe),
                                               stored_columns, place_.home_site));
  columns_.resize(n);
  for (size_t c = 0; c < n; ++c) {
    columns_[c].home = placement.home_of_column[c];
    columns_[c].site = placement.site_of_column[c];
    columns_[c].bytes = static_cast<uint32_t>(built_.columns[c].size());
    if (columns_[c].bytes == 0) empty_ |= ColumnSet{1} << c;
  }
  const auto live = static_cast<uint32_t>(
      std::count_if(sites.begin(), sites.end(), [](const auto& s) { return s.live; }));
  if (live < sites_needed()) {
    return failure(
        Errc::unavailable,
        "a stripe needs " + std::to_string(sites_needed()) + " sites and " + std::to_string(live) +
            " can be written; away: " + context_->sites.describe_away() + "; bring one back");
  }
  TRY(first_instance_, context_->ids.take(IdKind::instance, n * kPutsPerColumnMax));
  return success();
}

// Nobody else knows of the stripe yet.
void StripePutter::encode() {
  std::vector<TagSums> sums;
  for (const Column& column : columns_) {
    sums.emplace_back(column.bytes > 0 ? context_->tags->tagger(column.site) : nullptr);
  }
  encode_parity(*code_, built_, [&](size_t c, ByteView bytes) { sums[c].add(bytes); });
  for (size_t c = 0; c < columns_.size(); ++c) {
    if (sums[c].bytes() == columns_[c].bytes) columns_[c].sums = sums[c].finish();
  }
}

void StripePutter::start(const std::function<void(const BuiltStripe&)>& encoded) {
  auto prepared = prepare();
  if (prepared) {
    encode();
    if (encoded) encoded(built_);
  }
  std::vector<Put> first;
  Actions actions;
  {
    std::lock_guard lock(mutex_);
    if (!prepared) {
      actions.outcome = prepared.error();
      close(actions);
    } else {
      for (int c = 0; c < code_->n(); ++c) {
        const Column& column = columns_[static_cast<size_t>(c)];
        if (column.bytes > 0) first.push_back(make_put(c, column.site));
      }
    }
  }
  if (prepared) {
    context_->timers->after(context_->put_deadline, [weak = weak_from_this()] {
      if (auto self = weak.lock()) self->on_deadline();
    });
  }
  for (Put& put : first) issue(std::move(put));
  perform(std::move(actions));
}

StripePutter::Put StripePutter::make_put(int c, SiteId site) {
  Column& column = columns_[static_cast<size_t>(c)];
  Put put{.column = c,
          .site = site,
          .instance = first_instance_ + static_cast<uint64_t>(c * kPutsPerColumnMax + column.puts),
          .payload = built_.columns[static_cast<size_t>(c)],
          .sums = std::exchange(column.sums, {})};
  ++column.puts;
  column.pending.push_back(site);
  ++pending_;
  return put;
}

void StripePutter::perform(Actions actions) {
  context_->abandoned->add(std::move(actions.abandoned));
  if (actions.grace) {
    context_->timers->after(*actions.grace, [weak = weak_from_this()] {
      if (auto self = weak.lock()) self->on_grace_over();
    });
  }
  if (actions.hedge) {
    context_->timers->after(*actions.hedge, [weak = weak_from_this()] {
      if (auto self = weak.lock()) self->on_hedge();
    });
  }
  for (Put& put : actions.puts) {
    context_->offload.run([self = shared_from_this(), put = std::move(put)]() mutable {
      self->issue(std::move(put));
    });
  }
  if (actions.outcome) std::exchange(done_, nullptr)(std::move(*actions.outcome));
}

void StripePutter::issue(Put put) {
  const OpOptions options{.deadline = start_ + context_->put_deadline, .purpose = Purpose::client};
  const ShardName name{stripe_, static_cast<uint8_t>(put.column), put.instance};
  Payload payload = std::exchange(put.payload, {});
  const Bytes sums = std::exchange(put.sums, {});
  Attributes attributes = sums.empty() ? context_->tags->make(put.site, name, payload.parts)
                                       : context_->tags->make_from_sums(put.site, name, sums);
  Site* site = context_->sites.find(put.site);
  if (site == nullptr) return answered(put, failure(Errc::away, "it has left the cloud"));
  site->store().put(context_->namer.object_name(name), std::move(payload), std::move(attributes),
                    options,
                    [self = shared_from_this(), put](result<void> r) { self->answered(put, r); });
}

void StripePutter::abandon(int column, SiteId site, InstanceId instance, Actions& actions) const {
  auto& object = actions.abandoned.emplace_back();
  object.set_stripe(stripe_);
  object.set_column(static_cast<uint32_t>(column));
  object.set_instance(instance);
  object.set_site(site);
  object.set_bytes(columns_[static_cast<size_t>(column)].bytes);
}

void StripePutter::answered(const Put& put, const result<void>& outcome) {
  Actions actions;
  bool late = false;
  {
    std::lock_guard lock(mutex_);
    late = closed_;
    Column& column = columns_[static_cast<size_t>(put.column)];
    column.pending.erase(std::find(column.pending.begin(), column.pending.end(), put.site));
    --pending_;
    const bool ours = outcome || !outcome.error().is(Errc::exists);
    if (late) {
      if (ours) abandon(put.column, put.site, put.instance, actions);
    } else if (!outcome) {
      note_failure(put, outcome.error(), actions);
    } else if (column.durable && !spreads(column, put.site)) {
      abandon(put.column, put.site, put.instance, actions);
    } else {
      if (column.durable) abandon(put.column, column.site, column.instance, actions);
      column.durable = true;
      column.site = put.site;
      column.instance = put.instance;
      overdue_.erase(put.site);
    }
    if (!late) decide(actions);
  }
  perform(std::move(actions));
  if (late) context_->budget.late_ends(put.site, columns_[static_cast<size_t>(put.column)].bytes);
}

// A durable column answered once more, at a site with fewer columns of this stripe: without that,
// stand-ins for sites that are only slow could leave all shards durable, on too few sites.
bool StripePutter::spreads(const Column& column, SiteId site) const {
  const auto columns_at = [&](SiteId id) {
    return std::count_if(columns_.begin(), columns_.end(),
                         [&](const Column& c) { return c.durable && c.site == id; });
  };
  return columns_at(site) + 1 < columns_at(column.site);
}

// A refused shard goes to a stand-in; a name that exists is replaced at the same site.
void StripePutter::note_failure(const Put& put, const Error& error, Actions& actions) {
  const Column& column = columns_[static_cast<size_t>(put.column)];
  const bool name_taken = error.is(Errc::exists);
  if (!name_taken) {
    (is_out_of_space(error) ? no_room_ : refused_).emplace(put.site, error);
    abandon(put.column, put.site, put.instance, actions);
    failed_.insert(put.site);
  }
  if (column.durable || !column.pending.empty() || column.puts >= kPutsPerColumnMax) return;
  if (monotonic_now() >= start_ + context_->put_deadline) return;
  const auto site = name_taken ? std::optional(put.site) : stand_in(put.column);
  if (site) actions.puts.push_back(make_put(put.column, *site));
}

// The live site with the fewest columns of this stripe that has not failed it.
std::optional<SiteId> StripePutter::stand_in(int c) const {
  const Column& column = columns_[static_cast<size_t>(c)];
  std::optional<SiteId> best;
  long best_count = 0;
  for (Site* site : context_->sites.all()) {
    const SiteId id = site->id();
    if (!site->up() || !site->takes_shards() || site->full_for(shard_bytes_)) continue;
    if (failed_.contains(id) || overdue_.contains(id)) continue;
    if (std::count(column.pending.begin(), column.pending.end(), id) > 0) continue;
    long count = 0;
    for (const Column& other : columns_) {
      count += other.durable ? other.site == id
                             : std::count(other.pending.begin(), other.pending.end(), id);
    }
    if (!best || count < best_count) {
      best = id;
      best_count = count;
    }
  }
  return best;
}

size_t StripePutter::usable_sites() const {
  size_t usable = 0;
  for (Site* site : context_->sites.all()) {
    usable += site->up() && site->takes_shards() && !site->full_for(shard_bytes_) &&
              !failed_.contains(site->id()) && !overdue_.contains(site->id());
  }
  return usable;
}

// The least number of sites that must hold something of the stripe.
size_t StripePutter::sites_needed() const { return std::min(context_->sites_min, stored_); }

// Whatever the puts under way bring, too few sites are left that may take something.
bool StripePutter::hopeless() const {
  size_t possible = 0;
  for (Site* site : context_->sites.all()) {
    const SiteId id = site->id();
    const bool taken = std::any_of(columns_.begin(), columns_.end(), [&](const Column& c) {
      return (c.durable && c.site == id) || std::count(c.pending.begin(), c.pending.end(), id) > 0;
    });
    possible += taken || (site->up() && site->takes_shards() && !failed_.contains(id) &&
                          !site->full_for(shard_bytes_));
  }
  return possible < sites_needed();
}

void StripePutter::decide(Actions& actions) {
  const bool reached = quorum();
  const bool lost = !reached && hopeless();
  if (pending_ == 0 || deadline_over_ || (lost && (grace_over_ || cause_known()))) {
    reached ? succeed(actions) : fail(actions);
    return;
  }
  const Duration elapsed = monotonic_now() - start_;
  const Duration quarter = context_->put_deadline / 4;
  if (lost) {  // the next answers tell whether room would have helped: programs are told which it
               // is
    if (!std::exchange(grace_armed_, true)) {
      actions.grace = clamp(8 * elapsed, milliseconds(100), quarter);
    }
    return;
  }
  if (reached) {
    const ShardsHeld now = held();
    if (grace_over_ || columns_durable(now) == code_->n()) {
      succeed(actions);
    } else if (!grace_armed_) {
      grace_armed_ = true;
      actions.grace = urgency_ == Urgency::now ? std::max<Duration>(milliseconds(20), 2 * elapsed)
                                               : clamp(10 * elapsed, milliseconds(100), quarter);
    }
  } else if (!hedge_armed_ && columns_durable(held()) > __builtin_popcount(empty_)) {
    hedge_armed_ = true;
    if (hedge_after_ == Duration::zero())
      hedge_after_ = clamp(8 * elapsed, milliseconds(250), quarter);
    actions.hedge = hedge_after_;
  }
}

void StripePutter::on_grace_over() {
  Actions actions;
  {
    std::lock_guard lock(mutex_);
    if (closed_) return;
    grace_over_ = true;
    decide(actions);
  }
  perform(std::move(actions));
}

void StripePutter::on_deadline() {
  Actions actions;
  {
    std::lock_guard lock(mutex_);
    if (closed_) return;
    deadline_over_ = true;
    decide(actions);
  }
  perform(std::move(actions));
}

// Some sites have answered and the others keep the quorum waiting: race them with stand-ins. Those
// may be as silent: they are raced in turn.
void StripePutter::on_hedge() {
  Actions actions;
  {
    std::lock_guard lock(mutex_);
    if (closed_ || quorum()) return;
    for (const Column& column : columns_) {
      overdue_.insert(column.pending.begin(), column.pending.end());
    }
    for (int c = 0; c < code_->n(); ++c) {
      const Column& column = columns_[static_cast<size_t>(c)];
      if (column.durable || column.pending.empty() || column.puts >= kPutsPerColumnMax) continue;
      if (const auto site = stand_in(c)) actions.puts.push_back(make_put(c, *site));
    }
    hedge_armed_ = actions.puts.empty();  // nobody is left to ask
    decide(actions);
  }
  perform(std::move(actions));
}

}  // namespace datacloud
