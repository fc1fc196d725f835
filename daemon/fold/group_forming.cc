// Stripes are collected on the loop; rows are computed in jobs.
#include "daemon/fold/group_forming.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "common/base/log.h"
#include "common/stripe/shard_size.h"
#include "common/stripe/write_quorum.h"
#include "daemon/jobs/shard_io.h"
#include "daemon/metadata/counters.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"
#include "daemon/records/stripe_groups.h"

namespace datacloud {
namespace {

constexpr size_t kStep = 200;  // stripes looked at per step
constexpr size_t kWaitingMax = 20'000;
constexpr auto kTick = seconds(30);  // a stripe is looked at one or two ticks after its commit
constexpr int kJobsMax = 1;

// Whether the members' records still say what the row was computed from.
bool same(const pb::Stripe& a, const pb::Stripe& b) {
  return a.SerializeAsString() == b.SerializeAsString();
}

class Forming {
 public:
  Forming(BackgroundContext& context, BackgroundIds& ids) : context_(context), ids_(ids) {}

  result<FormedGroup> run(const std::vector<StripeId>& ids) {
    TRY(const bool ready, context_.threads.on_loop<bool>([&] { return gather(ids); }));
    if (!ready) return std::move(outcome_);
    TRY(code_, make_erasure_code(members_.front().code()));
    TRY(begin_row());
    std::vector<NewShard> shards;
    for (int c = 0; c < code_->n(); ++c) {
      TRY(const bool made, make_column(c, shards));
      if (made) continue;
      TRY(abandon_shards(context_, row_.id(), shards));
      return std::move(outcome_);
    }
    TRY(context_.threads.on_loop<void>([&] { return commit(); }));
    return std::move(outcome_);
  }

 private:
  // On the loop. True when no member has a missing shard or a stand-in, or is in a group already.
  result<bool> gather(const std::vector<StripeId>& ids) {
    const Transaction txn = context_.store.begin();
    const auto duties = context_.duties();
    for (const StripeId id : ids) {
      TRY(auto stripe, get_stripe(txn, id));
      if (!stripe || stripe->row() != 0) return false;
      TRY(const auto needs, stripe_needs(txn, *stripe, duties));
      if (needs.any()) return false;
      members_.push_back(std::move(*stripe));
    }
    return true;
  }

  result<void> begin_row() {
    TRY(const StripeId id, ids_.take(IdKind::stripe, 1));
    TRY(instance_, ids_.take(IdKind::instance, static_cast<uint32_t>(code_->n())));
    row_.set_id(id);
    row_.set_code(code_->name());
    row_.set_shard_bytes(members_.front().shard_bytes());
    row_.set_home_site(members_.front().home_site());
    for (const auto& member : members_) {
      row_.add_members(member.id());
      row_.set_parity_bytes(std::max(row_.parity_bytes(), member.parity_bytes()));
    }
    return success();
  }

  // False when a shard cannot be read or written now; `shards` has those that were written.
  result<bool> make_column(int c, std::vector<NewShard>& shards) {
    const SiteId site = members_.front().shards(c).site();
    auto& record = *row_.add_shards();
    record.set_site(site);
    record.set_home_site(site);
    Bytes sum;
    for (const auto& member : members_) {
      if (member.shards(c).state() == pb::SHARD_EMPTY) continue;
      auto read = read_shards(context_, member, ColumnSet{1} << c, Purpose::fold);
      if (!read.failures.empty()) {
        const auto& failed = read.failures.front();
        outcome_.obstacle =
            fmt::format("stripe {} column {}: {}", member.id(), c, failed.error.message());
        TRY(report(member, failed));
        return false;
      }
      const Bytes& bytes = read.columns.at(c);
      outcome_.bytes_read += bytes.size();
      if (bytes.size() > sum.size()) sum.resize(bytes.size());
      ErasureCode::apply_delta(bytes, MutableByteView(sum).first(bytes.size()));
    }
    if (sum.empty()) {
      record.set_state(pb::SHARD_EMPTY);
      return true;
    }
    record.set_bytes(static_cast<uint32_t>(sum.size()));
    record.set_instance(instance_ + static_cast<uint64_t>(c));
    shards.push_back({c, site, record.instance(), std::make_shared<const Bytes>(std::move(sum))});
    const ShardsPut put = put_shards(context_, row_.id(), {shards.back()}, Purpose::fold);
    outcome_.bytes_written += record.bytes();
    shards.back().bytes = nullptr;
    outcome_.obstacle = put.reasons;
    return put.failed.empty();
  }

  result<void> report(const pb::Stripe& member, const ShardFailure& failed) {
    if (!failed.damaged) return success();
    const auto& shard = member.shards(failed.column);
    return context_.threads.on_loop<void>([&]() -> result<void> {
      Transaction txn = context_.store.begin();
      TRY(record_damage(
          txn, damage_of({member.id(), static_cast<uint8_t>(failed.column), shard.instance()},
                         shard.site(), failed.error.message())));
      return txn.empty() ? success() : context_.committer.apply(std::move(txn));
    });
  }

  result<void> commit() {
    ShardsHeld held;
    for (int c = 0; c < row_.shards_size(); ++c) {
      const bool empty = row_.shards(c).state() == pb::SHARD_EMPTY;
      held.site_of_column.push_back(empty ? 0 : row_.shards(c).site());
      if (empty) held.empty |= ColumnSet{1} << c;
    }
    row_.set_weak(code_->m() > 0 && !survives_any_site(*code_, held));
    Transaction txn = context_.store.begin();
    TRY(outcome_.formed, add_row(txn, row_, [&](const pb::Stripe& now) {
          return std::any_of(members_.begin(), members_.end(),
                             [&](const pb::Stripe& read) { return same(read, now); });
        }));
    TRY(context_.committer.apply(std::move(txn)));
    if (!outcome_.formed) context_.collect();
    return success();
  }

  BackgroundContext& context_;
  BackgroundIds& ids_;
  std::shared_ptr<const ErasureCode> code_;
  std::vector<pb::Stripe> members_;
  pb::Stripe row_;
  InstanceId instance_ = 0;
  FormedGroup outcome_;
};

// A key that is equal for stripes which may share a row; it begins with t. Empty: not to be
// grouped.
result<std::string> kind_of(const Transaction& txn, const pb::Stripe& stripe,
                            const SiteDuties& duties) {
  const bool half_full = stripe.parity_bytes() >= shard_bytes_of(stripe.shard_bytes()) / 2;
  if (is_row(stripe) || stripe.row() != 0 || !half_full) {
    return std::string();
  }
  std::optional<pb::Owner> owner;  // of the first user; where that has gone, of one who shares
  for (const auto& first : {key::owner(stripe.id(), 0), key::shared(stripe.id(), 0, 0, 0)}) {
    TRY(txn.scan(first, key::after_prefix(first.substr(0, 9)),
                 [&](std::string_view, std::string_view v) {
                   owner.emplace();
                   if (!owner->ParseFromArray(v.data(), static_cast<int>(v.size()))) owner.reset();
                   return false;
                 }));
    if (owner) break;
  }
  pb::Inode inode;
  if (!owner) return std::string();
  TRY(const bool found, txn.get(key::inode(owner->ino()), inode));
  if (!found || inode.policy().group() < 2) return std::string();
  TRY(const auto needs, stripe_needs(txn, stripe, duties));
  if (needs.any()) return std::string();
  std::string kind = fmt::format("{} {} {} {}", inode.policy().group(), stripe.code(),
                                 stripe.shard_bytes(), stripe.home_site());
  for (const auto& shard : stripe.shards()) {
    kind += fmt::format(" {}", shard.home_site() != 0 ? shard.home_site() : shard.site());
  }
  return kind;
}

}  // namespace

result<FormedGroup> form_group(BackgroundContext& context, BackgroundIds& ids,
                               const std::vector<StripeId>& members) {
  std::vector<StripeId> sorted = members;
  std::sort(sorted.begin(), sorted.end());
  std::vector<std::unique_ptr<StripeLock>> locks;
  for (const StripeId id : sorted) {
    locks.push_back(std::make_unique<StripeLock>(context.threads, id));
    if (!*locks.back()) return FormedGroup{.obstacle = "other work holds a stripe"};
  }
  return Forming(context, ids).run(sorted);
}

void GroupFormer::start() {
  loop_->after(kTick, [this] { tick(); });
}

void GroupFormer::tick() {
  end_ = newest_;
  if (const auto next = read_counter(context_.store.begin(), "next_id/stripe", 1)) {
    newest_ = next.value();
  }
  if (!stepping_ && cursor_ < end_) {
    stepping_ = true;
    loop_->post([this] { step(); });
  }
  loop_->after(kTick, [this] { tick(); });
}

void GroupFormer::step() {
  if (running_ >= kJobsMax) {  // the end of a job calls this again
    stepping_ = false;
    return;
  }
  const Transaction txn = context_.store.begin();
  std::vector<pb::Stripe> found;
  const auto scanned =
      txn.scan(key::stripe(cursor_), key::stripe(end_), [&](std::string_view, std::string_view v) {
        pb::Stripe stripe;
        if (stripe.ParseFromArray(v.data(), static_cast<int>(v.size()))) {
          found.push_back(std::move(stripe));
        }
        return found.size() < kStep;
      });
  if (!scanned) spdlog::error("looking for stripes to group: {}", scanned.error().message());
  bool over = found.size() < kStep;
  for (const auto& stripe : found) {
    cursor_ = stripe.id() + 1;
    if (const auto done = consider(txn, stripe); !done) {
      spdlog::error("looking for stripes to group: {}", done.error().message());
    }
    if (running_ < kJobsMax) continue;
    over = false;
    break;
  }
  if (over) cursor_ = std::max(cursor_, end_);
  stepping_ = !over && running_ < kJobsMax;
  if (stepping_) loop_->post([this] { step(); });
}

result<void> GroupFormer::consider(const Transaction& txn, const pb::Stripe& stripe) {
  TRY(const std::string kind, kind_of(txn, stripe, context_.duties()));
  if (kind.empty() || waiting_count_ >= kWaitingMax) return success();
  auto& members = waiting_[kind];
  members.push_back(stripe.id());
  ++waiting_count_;
  if (members.size() < std::stoul(kind)) return success();
  waiting_count_ -= members.size();
  auto whole = std::move(members);
  waiting_.erase(kind);
  begin(std::move(whole));
  return success();
}

void GroupFormer::begin(std::vector<StripeId> members) {
  ++running_;
  context_.threads.submit([this, members = std::move(members), loop = loop_] {
    auto outcome = std::make_shared<result<FormedGroup>>(form_group(context_, ids_, members));
    loop->post([this, outcome] {
      --running_;
      if (!*outcome) {
        ++counts_.failures;
        spdlog::warn("forming a group: {}", outcome->error().message());
      } else {
        counts_.groups += outcome->value().formed;
        counts_.bytes_read += outcome->value().bytes_read;
        counts_.bytes_written += outcome->value().bytes_written;
        if (!outcome->value().obstacle.empty()) {
          spdlog::info("a group was not formed: {}", outcome->value().obstacle);
        }
      }
      if (!stepping_) {
        stepping_ = true;
        step();
      }
    });
  });
}

}  // namespace datacloud
