// Rebuilt shards written, challenged and named: the end of a repair move.
#include <fmt/format.h>

#include "daemon/jobs/fan_out.h"
#include "daemon/jobs/shard_switch.h"
#include "daemon/repair/stripe_repair.h"

namespace datacloud {
namespace {

constexpr auto kDeadline = seconds(30);
constexpr uint64_t kProvenBlocks = 8;  // of each new shard, at random

// What the stripe's record says with the new shards.
pb::Stripe with_shards(const pb::Stripe& stripe, const std::vector<ShardSwitch>& switches) {
  pb::Stripe after = stripe;
  for (const auto& change : switches) *after.mutable_shards(change.column) = change.shard;
  return after;
}

}  // namespace

result<bool> StripeRepair::put_and_switch(const Snapshot& now, size_t row, const Targets& targets,
                                          const std::map<int, Bytes>& fresh,
                                          RepairOutcome& outcome) {
  const pb::Stripe& stripe = now.stripes[row];
  TRY(const InstanceId first, ids_.take(IdKind::instance, static_cast<uint32_t>(fresh.size())));
  std::vector<NewShard> shards;
  std::vector<ShardSwitch> switches;
  for (const auto& [column, bytes] : fresh) {
    const NewShard shard{column, targets.site.at(column), first + shards.size(),
                         std::make_shared<const Bytes>(bytes)};
    ShardSwitch change{column, stripe.shards(column)};
    change.shard.set_state(pb::SHARD_PRESENT);
    change.shard.set_site(shard.site);
    change.shard.set_home_site(targets.home.at(column));
    change.shard.set_instance(shard.instance);
    change.shard.clear_versions();
    switches.push_back(std::move(change));
    outcome.bytes_written[shard.site] += bytes.size();
    shards.push_back(shard);
  }
  const ShardsPut put = put_shards(context_, stripe.id(), shards, Purpose::repair);
  if (!put.failed.empty()) {
    // If one fails, all are given up: the rest would need another plan, which the next attempt
    // makes.
    failed_sites_.insert(put.failed_sites.begin(), put.failed_sites.end());
    outcome.reason = put.reasons;
    TRY(abandon_shards(context_, stripe.id(), shards));
    return false;
  }
  bool switched = prove_written(with_shards(stripe, switches), shards, outcome);
  if (switched) {
    TRY(switched, context_.threads.on_loop<bool>([&]() -> result<bool> {
      Transaction txn = context_.store.begin();
      TRY(const bool done, switch_shards(txn, stripe, switches, context_.duties()));
      if (!done) return false;
      TRY(context_.committer.apply(std::move(txn)));
      context_.collect();
      return true;
    }));
  }
  if (!switched) {
    TRY(abandon_shards(context_, stripe.id(), shards));
  }
  return switched;
}

// A site that cannot prove an object which it has just reported as durable gets no shard in this
// run.
bool StripeRepair::prove_written(const pb::Stripe& expected, const std::vector<NewShard>& shards,
                                 RepairOutcome& outcome) {
  FanOut<AuditProof> answers;
  std::vector<AuditChallenge> challenges;
  for (const auto& shard : shards) {
    const uint64_t blocks = audit_blocks_of(shard.bytes->size());
    challenges.push_back(random_challenge(blocks, blocks <= kProvenBlocks ? 0 : kProvenBlocks));
    const ShardName name{expected.id(), static_cast<uint8_t>(shard.column), shard.instance};
    Site* site = context_.sites.find(shard.site);
    auto answer = answers.slot();
    if (site == nullptr) {  // it has left meanwhile
      answer(failure(Errc::away, context_.site_name(shard.site)));
      continue;
    }
    site->store().prove(context_.namer.object_name(name), challenges.back(),
                        {monotonic_now() + kDeadline, Purpose::repair}, std::move(answer));
  }
  bool good = true;
  for (size_t i = 0; i < shards.size(); ++i) {
    const auto proof = answers.answer(i);
    const auto verified = !proof ? result<void>(failure(proof.error()))
                                 : context_.tags.verify_proof(expected, shards[i].column,
                                                              challenges[i], proof.value());
    if (verified) continue;
    good = false;
    failed_sites_.insert(shards[i].site);
    outcome.reason = fmt::format("site {} does not prove what it has taken: {}",
                                 context_.site_name(shards[i].site), verified.error().message());
  }
  return good;
}

}  // namespace datacloud
