// The stepwise scan.
#include "daemon/scrub/stripe_statistics.h"

#include <algorithm>
#include <array>

#include "common/base/log.h"
#include "daemon/metadata/record_keys.h"

namespace datacloud {
namespace {

constexpr size_t kRecordsPerStep = 1000;
constexpr size_t kDamagedFirst = 100;
constexpr size_t kDamagedStripes = 1'000'000;
enum Phase : size_t { kDamage, kLive, kStripes, kPending, kQueued, kTrees, kInline, kPatches };

std::array<std::string, 8> prefixes() {
  return {key::damage(0, 0).substr(0, 1),       key::live(0).substr(0, 1),
          key::stripe(0).substr(0, 1),          key::pending(0).substr(0, 1),
          key::repair(0, 0).substr(0, 1),       key::tree(0).substr(0, 1),
          key::inline_block(0, 0).substr(0, 1), key::patch(0, 0, 0).substr(0, 1)};
}

}  // namespace

void StripeStatistics::get(std::function<void(const Counts&)> done) {
  if (!running_ && valid_ && counted_at_ == store_.sequence() && away_ == away_sites_())
    return done(counts_);
  waiting_.push_back(std::move(done));
  if (!running_) begin();
}

void StripeStatistics::begin() {
  running_ = true;
  valid_ = false;
  asked_ = std::exchange(waiting_, {});
  counts_ = {};
  counted_at_ = store_.sequence();
  away_ = away_sites_();
  damaged_.clear();
  dead_.clear();
  phase_ = 0;
  position_.clear();
  loop_->post([this] { step(); });
}

void StripeStatistics::step() {
  const auto all = prefixes();
  if (position_.empty()) {
    position_ = all[phase_];
    end_ = key::after_prefix(all[phase_]);
  }
  size_t seen = 0;
  bool more = false;
  const auto scanned =
      store_.begin().scan(position_, end_, [&](std::string_view k, std::string_view v) {
        if (seen++ == kRecordsPerStep) {
          position_ = k;
          more = true;
          return false;
        }
        count_record(k, v);
        return true;
      });
  if (!scanned) {
    spdlog::error("counting records: {}", scanned.error().message());
    counts_.incomplete = true;
    return finish();
  }
  if (!more) {
    position_.clear();
    if (++phase_ == all.size()) return finish();
  }
  loop_->post([this] { step(); });
}

void StripeStatistics::count_record(std::string_view k, std::string_view value) {
  if (phase_ == kStripes) return count_stripe(value);
  if (phase_ == kLive) {
    // Without slots and bytes the record is empty.
    if (value.empty() && k.size() == 9 && dead_.size() < kDamagedStripes) {
      dead_.insert(key::u64_at(k, 1));
    }
    return;
  }
  if (phase_ == kPending) {
    ++counts_.pending_deletions;
    return;
  }
  if (phase_ == kQueued) {
    ++counts_.repair_queued;
    return;
  }
  if (phase_ == kTrees || phase_ == kInline || phase_ == kPatches) {
    ++(phase_ == kTrees    ? counts_.trees
       : phase_ == kInline ? counts_.inline_blocks
                           : counts_.patches);
    return;
  }
  ++counts_.damaged;
  pb::Damage damage;
  if (!damage.ParseFromArray(value.data(), static_cast<int>(value.size()))) return;
  if (damaged_.size() < kDamagedStripes && damage.column() < 32) {
    damaged_[damage.stripe()] |= ColumnSet{1} << damage.column();
  }
  if (counts_.damaged_first.size() < kDamagedFirst) {
    counts_.damaged_first.push_back(std::move(damage));
  }
}

void StripeStatistics::count_group(const pb::Stripe& stripe) {
  uint64_t bytes = 0;
  for (const auto& shard : stripe.shards()) bytes += shard.bytes();
  if (stripe.members_size() > 0) {
    ++counts_.rows;
    counts_.row_bytes += bytes;
  }
  if (stripe.row() == 0) return;
  ++counts_.members;
  if (!dead_.contains(stripe.id())) return;
  ++counts_.dead_members;
  counts_.dead_bytes += bytes;
}

void StripeStatistics::count_stripe(std::string_view value) {
  pb::Stripe stripe;
  if (!stripe.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
    counts_.incomplete = true;
    return;
  }
  count_group(stripe);
  ColumnSet unreadable = 0;
  if (const auto it = damaged_.find(stripe.id()); it != damaged_.end()) unreadable = it->second;
  for (int c = 0; c < std::min(stripe.shards_size(), 32); ++c) {
    const auto& shard = stripe.shards(c);
    const bool away = shard.state() == pb::SHARD_PRESENT && away_.contains(shard.site());
    if (away || shard.state() == pb::SHARD_MISSING) unreadable |= ColumnSet{1} << c;
  }
  const int bad = __builtin_popcount(unreadable);
  auto tolerance = tolerances_.find(stripe.code());
  if (tolerance == tolerances_.end()) {
    const auto code = make_erasure_code(stripe.code());
    tolerance =
        tolerances_.emplace(stripe.code(), code ? code.value()->guaranteed_tolerance() : 0).first;
  }
  const auto left = static_cast<size_t>(std::max(0, tolerance->second - bad));
  if (counts_.stripes_by_remaining.size() <= left) counts_.stripes_by_remaining.resize(left + 1);
  ++counts_.stripes_by_remaining[left];
  for (const auto& shard : stripe.shards()) {
    auto& site = counts_.sites[shard.site()];
    if (shard.state() == pb::SHARD_MISSING) ++site.missing;
    if (shard.state() != pb::SHARD_PRESENT) continue;
    ++site.shards;
    site.shard_bytes += shard.bytes();
    if (shard.home_site() != 0 && shard.home_site() != shard.site()) ++site.stand_ins;
  }
}

void StripeStatistics::finish() {
  running_ = false;
  valid_ = !counts_.incomplete;
  for (auto& done : std::exchange(asked_, {})) done(counts_);
  if (!waiting_.empty() && !running_) begin();
}

}  // namespace datacloud
