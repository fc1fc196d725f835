// The steps: snapshot, plan, read and verify, compute the changes, derive new objects, switch.
#include "daemon/fold/parity_fold.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "common/base/log.h"
#include "daemon/fold/fold_switch.h"
#include "daemon/jobs/fan_out.h"
#include "daemon/records/block_map.h"

namespace datacloud {
namespace {

constexpr auto kDeadline = seconds(60);          // of one derivation
constexpr uint64_t kUpdateBytesMax = 16u << 20;  // of one pass, in memory twice and as changes
constexpr size_t kVersionRunsMax = 64;           // with more, all blocks get one new version

using Kind = FoldOutcome::Kind;

// If a site can derive objects itself, only changes and their tags are sent to it, hardly more than
// one shard in all. Otherwise the whole old object is read and the whole new one is written
// (object_compute.h).
bool is_copied_at_site(const pb::Shard& shard, const DeriveReply& reply) {
  return reply.bytes_transferred < 2 * uint64_t{shard.bytes()};
}

// One object to be made, and what it differs by from the one there is.
struct Derived : FoldedColumn {
  std::vector<XorRange> change;  // ascending, apart
};

// One attempt at one stripe.
class ParityFold {
 public:
  ParityFold(BackgroundContext& context, BackgroundIds& ids, FoldSnapshot& now,
             std::vector<size_t> folded, FoldOutcome& outcome)
      : context_(context), ids_(ids), now_(now), folded_(std::move(folded)), outcome_(outcome) {}

  result<void> run() {
    TRY(const bool good, read());
    if (!good) return success();
    compute();
    TRY(const bool made, derive());
    const std::vector<FoldedColumn> objects(objects_.begin(), objects_.end());
    return made ? switch_fold(context_, now_, folded_, objects, outcome_)
                : abandon_fold(context_, now_, objects);
  }

 private:
  // True when everything old and new was read and is what was written.
  result<bool> read() {
    std::map<std::pair<StripeId, int>, size_t> index;
    const auto want = [&](const pb::Stripe& stripe, int column, ByteRange range) {
      const auto [it, added] = index.try_emplace({stripe.id(), column}, parts_.size());
      if (added) parts_.push_back({&stripe, column, {}, {}, {}});
      parts_[it->second].wanted.push_back(range);
      return it->second;
    };
    for (const size_t i : folded_) {
      const auto& update = now_.updates[i];
      const auto& source = now_.sources.at(update.source);
      const int slot = static_cast<int>(update.source_slot);
      Pair pair;
      pair.old_range = {update.place.offset, update.new_bytes};
      pair.new_range = {source.slot_offset(slot), update.new_bytes};
      pair.old_part = want(now_.base, static_cast<int>(update.place.column), pair.old_range);
      pair.new_part = want(source, static_cast<int>(source.slot_column(slot)), pair.new_range);
      pairs_.push_back(pair);
    }
    const auto read = read_parts(context_, parts_, Purpose::fold);
    outcome_.bytes_read += read.bytes;
    outcome_.bytes_between_sites += read.bytes_between_sites;
    return accept_parts(context_, parts_, outcome_);
  }

  // What each column changes by: old plus new in the data column, times its coefficients in parity.
  void compute() {
    const auto& code = *now_.code;
    const uint64_t parity_bytes = now_.base.parity_bytes();
    std::map<int, std::vector<XorRange>> changes;
    for (size_t i = 0; i < folded_.size(); ++i) {
      const auto& update = now_.updates[folded_[i]];
      const Pair& pair = pairs_[i];
      const int column = static_cast<int>(update.place.column);
      const ByteView fresh = parts_[pair.new_part].at(pair.new_range);
      XorRange change{update.place.offset, Bytes(fresh.begin(), fresh.end())};
      ErasureCode::apply_delta(parts_[pair.old_part].at(pair.old_range), change.bytes);
      const ByteRange range{change.offset, change.bytes.size()};
      for (int p = 0; p < code.m(); ++p) {
        auto& parity = changes[code.k() + p];
        const size_t first = parity.size();
        for (const auto& r : code.delta_ranges(column, p, range, parity_bytes)) {
          parity.push_back({r.offset, Bytes(r.length)});
        }
        std::vector<MutableByteView> out;
        for (size_t r = first; r < parity.size(); ++r) out.emplace_back(parity[r].bytes);
        code.encode_delta(column, p, range, parity_bytes, change.bytes, out);
      }
      changes[column].push_back(std::move(change));
    }
    parts_.clear();
    for (auto& [column, ranges] : changes) {
      if (ranges.empty()) continue;  // an absent dependence of a multi-packet code
      objects_.push_back({{&now_.base, column, 0, {}}, coalesce(ranges)});
    }
    if (!now_.row) return;
    const size_t count = objects_.size();
    for (size_t i = 0; i < count; ++i) {
      objects_.push_back({{&*now_.row, objects_[i].column, 0, {}}, objects_[i].change});
    }
  }

  Derivation derivation(Derived& object) const {
    const auto& shard = object.stripe->shards(object.column);
    const auto before = versions_of(shard);
    const uint64_t total = audit_blocks_of(shard.bytes());
    std::vector<uint64_t> touched;
    for (const auto& range : object.change) {
      const uint64_t end = audit_blocks_of(range.offset + range.bytes.size());
      for (uint64_t b = range.offset / kAuditBlockBytes; b < end; ++b) touched.push_back(b);
    }
    object.versions = rewritten(before, touched, total, object.instance);
    std::vector<uint64_t> also;
    if (object.versions.size() > kVersionRunsMax) {
      object.versions = {{0, object.instance}};
      for (uint64_t b = 0; b < total; ++b) also.push_back(b);
    }
    Derivation d;
    const auto column = static_cast<uint8_t>(object.column);
    d.source = context_.namer.object_name({object.stripe->id(), column, shard.instance()});
    d.source_instance = shard.instance();
    d.instance = object.instance;
    d.size = shard.bytes();
    d.data = object.change;
    d.tags = context_.tags.tagger(shard.site())
                 ->tag_deltas({object.stripe->id(), column}, before, object.instance, shard.bytes(),
                              shard.bytes(), object.change, also);
    return d;
  }

  // True when all new objects are durable.
  result<bool> derive() {
    TRY(const InstanceId first,
        ids_.take(IdKind::instance, static_cast<uint32_t>(objects_.size())));
    for (size_t i = 0; i < objects_.size(); ++i) objects_[i].instance = first + i;
    FanOut<DeriveReply> answers;
    for (auto& object : objects_) {
      const auto& shard = object.stripe->shards(object.column);
      auto done = answers.slot();
      Site* site = context_.sites.find(shard.site());
      if (site == nullptr || context_.tags.tagger(shard.site()) == nullptr) {
        done(failure(Errc::away, "the site is not configured, or has no audit key"));
        continue;
      }
      Derivation d = derivation(object);
      uint64_t bytes = 0;
      for (const auto& range : d.data) bytes += range.bytes.size();
      context_.threads.spend(shard.site(), bytes);
      outcome_.change_bytes += bytes;
      const ShardName name{object.stripe->id(), static_cast<uint8_t>(object.column),
                           object.instance};
      site->store().derive(context_.namer.object_name(name), std::move(d),
                           {monotonic_now() + kDeadline, Purpose::fold}, std::move(done));
    }
    bool good = true;
    std::vector<pb::Damage> missing;
    for (size_t i = 0; i < objects_.size(); ++i) {
      const auto& object = objects_[i];
      const auto& shard = object.stripe->shards(object.column);
      const auto reply = answers.answer(i);
      if (reply) {
        if (shard.site() != context_.local_site) {
          outcome_.bytes_between_sites += reply.value().bytes_transferred;
        }
        if (is_copied_at_site(shard, reply.value())) {
          outcome_.bytes_copied_at_sites += shard.bytes();
        }
        continue;
      }
      good = false;
      outcome_.kind = Kind::blocked;
      outcome_.reason =
          fmt::format("stripe {} column {} at site {}: {}", object.stripe->id(), object.column,
                      context_.site_name(shard.site()), reply.error().message());
      if (reply.error().is(Errc::not_found) || reply.error().is(Errc::corrupt)) {
        missing.push_back(
            damage_of({object.stripe->id(), static_cast<uint8_t>(object.column), shard.instance()},
                      shard.site(), reply.error().message()));
      }
    }
    if (!missing.empty()) {
      TRY(context_.threads.on_loop<void>([&]() -> result<void> {
        Transaction txn = context_.store.begin();
        for (const auto& damage : missing) {
          TRY(record_damage(txn, damage));
        }
        return context_.committer.apply(std::move(txn));
      }));
    }
    return good;
  }

  struct Pair {  // where an update's old and new bytes are among the parts read
    size_t old_part = 0, new_part = 0;
    ByteRange old_range, new_range;
  };

  BackgroundContext& context_;
  BackgroundIds& ids_;
  FoldSnapshot& now_;
  std::vector<size_t> folded_;  // indices of updates
  FoldOutcome& outcome_;
  std::vector<ShardParts> parts_;
  std::vector<Pair> pairs_;  // one for each of folded_
  std::vector<Derived> objects_;
};

result<FoldPlan> plan_of(const BackgroundContext& context, const FoldSnapshot& now,
                         const FoldOptions& options) {
  FoldProblem problem = now.problem(context);
  problem.live_share_min = options.live_share_min;
  problem.blocked_too_long = options.blocked_too_long;
  TRY(auto plan, plan_fold(problem));
  // If the fold only has to wait for a repair or a site, the base is not merged instead.
  auto& delta = plan.alternatives[0];
  if ((now.base_bad | now.row_bad) == 0 || plan.folded.empty() || delta.impossible.empty()) {
    return plan;
  }
  plan.chosen.reset();
  for (auto& way : plan.alternatives) {
    const bool updates_only = way.kind == FoldKind::merge_updates;
    if (options.blocked_too_long && updates_only) {
      way.impossible.clear();
      plan.chosen = way.kind;
    } else if (way.impossible.empty()) {
      way.impossible = "waits for what the fold waits for";
    }
  }
  return plan;
}

// Chooses the updates of this pass, as many as fit into memory; the others are left for the next
// pass.
std::vector<size_t> limited(const FoldSnapshot& now, const std::vector<size_t>& folded) {
  std::vector<size_t> taken;
  uint64_t bytes = 0;
  for (const size_t i : folded) {
    bytes += now.updates[i].new_bytes;
    if (!taken.empty() && bytes > kUpdateBytesMax) break;
    taken.push_back(i);
  }
  return taken;
}

std::string obstacle_of(const FoldPlan& plan) {
  for (const auto& way : plan.alternatives) {
    if (!way.impossible.empty()) return way.impossible;
  }
  return "no way to fold is possible";
}

}  // namespace

result<FoldOutcome> fold_stripe(BackgroundContext& context, BackgroundIds& ids, StripeId base,
                                const FoldOptions& options) {
  FoldOutcome outcome;
  const StripeLock lock(context.threads, base);
  if (!lock) {
    outcome.kind = Kind::busy;
    return outcome;
  }
  TRY(auto now, context.threads.on_loop<std::optional<FoldSnapshot>>([&] {
    return fold_snapshot(context, context.store.begin(), base, options.is_ripe);
  }));
  if (!now) return outcome;
  for (const auto& [id, stripe] : now->sources) outcome.sources.push_back(id);
  outcome.update_bytes = outcome.unripe_bytes = now->unripe_bytes;
  for (const auto& update : now->updates) outcome.update_bytes += update.new_bytes;
  if (now->unripe > 0 && !options.without_unripe) {
    outcome.kind = Kind::waiting;
    return outcome;
  }
  if (now->updates.empty()) {
    if (now->unusable > 0) outcome.kind = Kind::blocked;
    outcome.reason = now->unusable_reason;
    return outcome;
  }
  std::optional<StripeLock> row_lock;
  if (now->row) {
    row_lock.emplace(context.threads, now->row->id());
    if (!*row_lock) {
      outcome.kind = Kind::busy;
      return outcome;
    }
  }
  TRY(const auto plan, plan_of(context, *now, options));
  if (!plan.chosen) {
    outcome.kind = Kind::blocked;
    outcome.reason = obstacle_of(plan);
    return outcome;
  }
  if (*plan.chosen == FoldKind::reencode && plan.leftovers.empty() && !now->row) {
    TRY(reencode_stripe(context, ids, *now, plan.folded, outcome));
    return outcome;
  }
  // The change of an XOR row can be computed from deltas only.
  const bool delta_possible = plan.alternatives[0].impossible.empty();
  if (*plan.chosen == FoldKind::merge_updates || *plan.chosen == FoldKind::merge ||
      !delta_possible) {
    outcome.kind = *plan.chosen == FoldKind::merge_updates ? Kind::merge_updates : Kind::merge;
    return outcome;
  }
  const auto folded = limited(*now, plan.folded);
  outcome.more = folded.size() < plan.folded.size() || now->updates.size() >= kFoldUpdatesMax;
  TRY(ParityFold(context, ids, *now, folded, outcome).run());
  return outcome;
}

result<std::vector<std::string>> explain_fold(const BackgroundContext& context,
                                              const Transaction& txn, StripeId base,
                                              const FoldOptions& options) {
  TRY(const auto now, fold_snapshot(context, txn, base, options.is_ripe));
  if (!now || (now->updates.empty() && now->unusable == 0)) return std::vector<std::string>();
  std::vector<std::string> lines;
  if (!now->updates.empty()) {
    uint64_t bytes = 0;
    for (const auto& update : now->updates) bytes += update.new_bytes;
    lines.push_back(fmt::format("{} blocks of {} bytes in {} stripes supersede blocks of it",
                                now->updates.size(), bytes, now->sources.size()));
    TRY(const auto plan, plan_of(context, *now, options));
    for (auto& line : explain(plan)) lines.push_back(std::move(line));
  }
  if (now->unusable > 0) {
    lines.push_back(fmt::format("{} blocks wait: {}", now->unusable, now->unusable_reason));
  }
  return lines;
}

}  // namespace datacloud
