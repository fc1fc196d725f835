// Fan out to the helpers, then check tags.
#include "daemon/repair/combined_reads.h"

#include <fmt/format.h>

#include "common/store/object_compute.h"
#include "daemon/jobs/fan_out.h"

namespace datacloud {
namespace {

constexpr auto kDeadline = seconds(30);

struct Asked {
  const RepairHelper* helper = nullptr;
  Combination combination;
};

result<std::vector<Bytes>> verified(const BackgroundContext& context, const pb::Stripe& stripe,
                                    const Asked& asked, result<CombineReply> combined,
                                    result<ReadReply> tags) {
  if (!combined) return failure(combined.error());
  if (!tags) return failure(tags.error());
  const int column = asked.helper->column;
  const auto& shard = stripe.shards(column);
  const AuditTagger* tagger = context.tags.tagger(shard.site());
  const auto found = tags.value().attributes.find(kTagsAttribute);
  if (tagger == nullptr || found == tags.value().attributes.end() ||
      found->second.size() != audit_blocks_of(shard.bytes()) * kFieldBytes ||
      !combination_verified(*tagger, {stripe.id(), static_cast<uint8_t>(column)}, shard,
                            asked.combination, combined.value().outputs, as_bytes(found->second))) {
    return failure(Errc::corrupt, "what it combined does not fit its audit tags");
  }
  return std::move(combined.value().outputs);
}

// Whole shards, combined here.
void combine_here(BackgroundContext& context, const ErasureCode& code, const pb::Stripe& stripe,
                  const RepairPlan& plan, CombinedRead& out) {
  ColumnSet columns = 0;
  for (const auto& helper : plan.helpers) {
    if (stripe.shards(helper.column).state() != pb::SHARD_EMPTY) {
      columns |= ColumnSet{1} << helper.column;
    }
  }
  ShardsRead read = read_shards(context, stripe, columns, Purpose::repair);
  out.bytes_by_site = std::move(read.bytes_by_site);
  out.failures = std::move(read.failures);
  if (!out.failures.empty()) return;
  for (const auto& helper : plan.helpers) {
    Bytes& shard = read.columns[helper.column];
    shard.resize(stripe.parity_bytes());
    Combination combination{code.packet_ranges(stripe.parity_bytes()), helper.coefficients};
    std::vector<Bytes> packets;
    for (const auto& range : combination.ranges) {
      const auto view = ByteView(shard).subspan(range.offset, range.length);
      packets.emplace_back(view.begin(), view.end());
    }
    auto combined = combine_ranges(std::move(packets), combination);
    for (auto& output : combined.outputs) out.outputs.push_back(std::move(output));
  }
}

}  // namespace

bool combination_verified(const AuditTagger& tagger, const AuditedColumn& column,
                          const pb::Shard& shard, const Combination& combination,
                          const std::vector<Bytes>& outputs, ByteView tags) {
  const uint64_t held = audit_blocks_of(shard.bytes());
  const BlockVersions versions = versions_of(shard);
  if (outputs.size() != combination.coefficients.size() || combination.ranges.empty()) return false;
  const uint64_t length = combination.ranges[0].length;
  const uint64_t blocks = length / kAuditBlockBytes;
  // Tag less PRF of every block of every range: the sums of its elements.
  std::vector<Bytes> sums;
  for (const auto& range : combination.ranges) {
    if (range.offset % kAuditBlockBytes != 0 || range.length != length ||
        length % kAuditBlockBytes != 0) {
      return false;
    }
    Bytes& sum = sums.emplace_back(blocks * kFieldBytes);
    for (uint64_t b = 0; b < blocks; ++b) {
      const uint64_t block = range.offset / kAuditBlockBytes + b;
      if (block >= held) break;  // beyond the end: zeros without tag
      const Bytes prf = tagger.prf(column, {block, 1}, version_of(versions, block));
      for (size_t i = 0; i < kFieldBytes; ++i) {
        sum[b * kFieldBytes + i] = tags[block * kFieldBytes + i] ^ prf[i];
      }
    }
  }
  for (size_t j = 0; j < outputs.size(); ++j) {
    if (outputs[j].size() != length) return false;
    Bytes expected(blocks * kFieldBytes);
    gf256_combine(combination.coefficients[j], {sums.begin(), sums.end()},
                  {MutableByteView(expected)});
    // A tag under any PRF input, less that PRF value, is the sum of the elements.
    Bytes found = tagger.tags(AuditedColumn{}, 0, ByteView(outputs[j]));
    const Bytes prf = tagger.prf(AuditedColumn{}, {0, blocks}, 0);
    for (size_t i = 0; i < found.size(); ++i) found[i] ^= prf[i];
    if (found != expected) return false;
  }
  return true;
}

CombinedRead read_combined(BackgroundContext& context, const ErasureCode& code,
                           const pb::Stripe& stripe, const RepairPlan& plan) {
  CombinedRead out;
  const uint64_t packet = stripe.parity_bytes() / static_cast<uint64_t>(code.packets());
  if (packet % kAuditBlockBytes != 0) {
    combine_here(context, code, stripe, plan, out);
    return out;
  }
  FanOut<CombineReply> combined;
  FanOut<ReadReply> tags;
  std::vector<Asked> asked;
  for (const auto& helper : plan.helpers) {
    const auto& shard = stripe.shards(helper.column);
    asked.push_back({&helper, {code.packet_ranges(stripe.parity_bytes()), helper.coefficients}});
    Site* site = context.sites.find(shard.site());
    auto combine = combined.slot();
    auto read = tags.slot();
    if (shard.state() == pb::SHARD_EMPTY) continue;
    if (site == nullptr) {
      combine(failure(Errc::away, "its site is not configured"));
      read(failure(Errc::away, "its site is not configured"));
      continue;
    }
    const std::string name = context.namer.object_name(
        {stripe.id(), static_cast<uint8_t>(helper.column), shard.instance()});
    const OpOptions options{monotonic_now() + kDeadline, Purpose::repair};
    context.threads.spend(shard.site(), packet * helper.coefficients.size(), 2);
    site->store().combine(name, asked.back().combination, options, std::move(combine));
    site->store().read(name, {}, true, options, std::move(read));
  }
  for (size_t i = 0; i < asked.size(); ++i) {
    const int column = asked[i].helper->column;
    const auto& shard = stripe.shards(column);
    if (shard.state() == pb::SHARD_EMPTY) {
      for (size_t j = 0; j < asked[i].helper->coefficients.size(); ++j) {
        out.outputs.emplace_back(packet);
      }
      continue;
    }
    auto reply = combined.answer(i);
    if (reply) out.bytes_by_site[shard.site()] += reply.value().bytes_transferred;
    auto outputs = verified(context, stripe, asked[i], std::move(reply), tags.answer(i));
    if (!outputs) {
      out.failures.push_back({column, is_damage(outputs.error()), outputs.error()});
      continue;
    }
    for (auto& output : outputs.value()) out.outputs.push_back(std::move(output));
  }
  return out;
}

}  // namespace datacloud
