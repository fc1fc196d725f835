// Stripe by stripe, a step at a time on the loop.
#include "daemon/scrub/missing_shard_finder.h"

#include <algorithm>

#include "daemon/jobs/fan_out.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"

namespace datacloud {
namespace {

constexpr auto kDeadline = seconds(30);
constexpr size_t kStripeKeyBytes = 9;

OpOptions options() { return {monotonic_now() + kDeadline, Purpose::repair}; }

}  // namespace

result<void> MissingShardFinder::look_up(ListedNames& names,
                                         std::atomic<uint64_t>& shards_checked) {
  const uint64_t parts = names.parts(options_.part_names);
  for (uint64_t part = 0; part < parts; ++part) {
    TRY(const auto loaded, names.load(part, parts));
    TRY(look_up(loaded, shards_checked));
  }
  return success();
}

result<void> MissingShardFinder::look_up(const ListedNames::Part& names,
                                         std::atomic<uint64_t>& shards_checked) {
  StripeId from = 0;
  for (bool more = true; more;) {
    auto suspects = std::make_shared<std::vector<ShardName>>();
    TRY(more, context_.threads.on_loop<bool>([&]() -> result<bool> {
      size_t seen = 0;
      const std::string end = key::after_prefix(key::stripe(0).substr(0, 1));
      TRY(context_.store.begin().scan(
          key::stripe(from), end, [&](std::string_view k, std::string_view v) {
            if (k.size() != kStripeKeyBytes) return true;
            from = key::u64_at(k, 1) + 1;
            ++seen;
            pb::Stripe stripe;
            if (!stripe.ParseFromArray(v.data(), static_cast<int>(v.size()))) return true;
            for (int c = 0; c < stripe.shards_size(); ++c) {
              const auto& shard = stripe.shards(c);
              if (shard.state() != pb::SHARD_PRESENT || shard.site() != site_.id()) continue;
              if (shard.instance() >= options_.instance_end) continue;
              const ShardName name{stripe.id(), static_cast<uint8_t>(c), shard.instance()};
              const uint64_t print = ListedNames::fingerprint(context_.namer.object_name(name));
              if (!names.covers(print)) continue;
              ++shards_checked;
              if (!names.has(print)) suspects->push_back(name);
            }
            return seen < options_.stripes_per_step;
          }));
      return seen == options_.stripes_per_step;
    }));
    for (size_t i = 0; i < suspects->size(); i += kConfirmed) {
      const size_t end = std::min(suspects->size(), i + kConfirmed);
      TRY(confirm(
          {suspects->begin() + static_cast<long>(i), suspects->begin() + static_cast<long>(end)}));
    }
    if (options_.rest > Duration::zero()) context_.threads.sleep(options_.rest);
  }
  return success();
}

result<void> MissingShardFinder::confirm(const std::vector<ShardName>& suspects) {
  FanOut<ReadReply> answers;
  for (const auto& name : suspects) {
    context_.threads.spend(site_.id(), 0);
    site_.store().read(context_.namer.object_name(name), {}, false, options(), answers.slot());
  }
  std::vector<pb::Damage> found;
  for (size_t i = 0; i < suspects.size(); ++i) {
    const auto answer = answers.answer(i);
    if (answer || !answer.error().is(Errc::not_found)) continue;
    found.push_back(damage_of(suspects[i], site_.id(), "missing"));
  }
  if (found.empty()) return success();
  return context_.threads.on_loop<void>([&] { return found_(found); });
}

result<void> record_missing(BackgroundContext& context, const std::vector<pb::Damage>& found) {
  Transaction txn = context.store.begin();
  for (const auto& damage : found) {
    TRY(record_damage(txn, damage));
  }
  return context.committer.apply(std::move(txn));
}

}  // namespace datacloud
