// Fan out, wait for all, verify.
#include "daemon/jobs/shard_io.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/records/block_map.h"

namespace datacloud {
namespace {

constexpr auto kDeadline = seconds(30);  // of one shard

ShardName name_of(const pb::Stripe& stripe, int column) {
  return {stripe.id(), static_cast<uint8_t>(column), stripe.shards(column).instance()};
}

// Whole blocks that hold the first `bytes` of the shard.
uint64_t prefix_of(const pb::Shard& shard, uint64_t bytes) {
  return std::min<uint64_t>(shard.bytes(), audit_blocks_of(bytes) * kAuditBlockBytes);
}

result<void> verify_prefix(const BackgroundContext& context, const pb::Stripe& stripe, int column,
                           ByteView bytes, const Attributes& attributes) {
  const auto& shard = stripe.shards(column);
  if (bytes.size() == shard.bytes()) return context.tags.verify(stripe, column, bytes, attributes);
  const AuditTagger* tagger = context.tags.tagger(shard.site());
  const auto tags = attributes.find(kTagsAttribute);
  const uint64_t blocks = audit_blocks_of(bytes.size());
  if (tagger == nullptr || tags == attributes.end() ||
      tags->second.size() != audit_blocks_of(shard.bytes()) * kFieldBytes ||
      !tagger
           ->failing_blocks({stripe.id(), static_cast<uint8_t>(column)}, versions_of(shard),
                            {0, blocks}, bytes, as_bytes(tags->second))
           .empty()) {
    return failure(Errc::corrupt, fmt::format("its first {} audit blocks fail their tags", blocks));
  }
  return success();
}

result<Bytes> verified(const BackgroundContext& context, const pb::Stripe& stripe, int column,
                       uint64_t bytes, result<ReadReply> reply) {
  if (!reply) return failure(reply.error());
  const auto& shard = stripe.shards(column);
  auto& found = reply.value();
  if (found.object_size != shard.bytes() || found.ranges.size() != 1 ||
      found.ranges[0].size() != bytes) {
    return failure(Errc::corrupt, fmt::format("the object has {} bytes instead of {}",
                                              found.object_size, shard.bytes()));
  }
  TRY(verify_prefix(context, stripe, column, found.ranges[0], found.attributes));
  return std::move(found.ranges[0]);
}

}  // namespace

bool is_damage(const Error& error) {
  return error.is(Errc::not_found) || error.is(Errc::corrupt) || error.is(Errc::io);
}

ShardsRead read_shards(BackgroundContext& context, const pb::Stripe& stripe, ColumnSet columns,
                       Purpose purpose) {
  std::map<int, uint64_t> bytes;
  for (int c = 0; c < stripe.shards_size(); ++c) {
    if (contains(columns, c)) bytes[c] = stripe.shards(c).bytes();
  }
  return PrefixReads(context, stripe, std::move(bytes), purpose).finish();
}

PrefixReads::PrefixReads(BackgroundContext& context, const pb::Stripe& stripe,
                         std::map<int, uint64_t> bytes_of_column, Purpose purpose)
    : context_(context), stripe_(stripe), wanted_(std::move(bytes_of_column)) {
  for (const auto& [c, wanted] : wanted_) {
    const auto& shard = stripe.shards(c);
    Site* site = context.sites.find(shard.site());
    if (site == nullptr) {
      out_.failures.push_back({c, false, Error(Errc::away, "its site is not configured")});
      continue;
    }
    const uint64_t bytes = prefix_of(shard, wanted);
    context.threads.spend(shard.site(), bytes);
    asked_.push_back(c);
    site->store().read(context.namer.object_name(name_of(stripe, c)), {{0, bytes}}, true,
                       {monotonic_now() + kDeadline, purpose}, answers_.slot());
  }
}

ShardsRead PrefixReads::finish() {
  for (size_t i = 0; i < asked_.size(); ++i) {
    const int c = asked_[i];
    auto data = verified(context_, stripe_, c, prefix_of(stripe_.shards(c), wanted_.at(c)),
                         answers_.answer(i));
    if (data) {
      out_.bytes_by_site[stripe_.shards(c).site()] += data.value().size();
      out_.columns[c] = std::move(data).value();
    } else {
      out_.failures.push_back({c, is_damage(data.error()), data.error()});
    }
  }
  return std::move(out_);
}

ShardsPut put_shards(BackgroundContext& context, StripeId stripe,
                     const std::vector<NewShard>& shards, Purpose purpose) {
  ShardsPut out;
  FanOut<void> answers;
  for (const auto& shard : shards) {
    context.threads.spend(shard.site, shard.bytes->size());
    const ShardName name{stripe, static_cast<uint8_t>(shard.column), shard.instance};
    Payload payload;
    payload.parts.push_back(*shard.bytes);
    payload.owner = shard.bytes;
    auto done = answers.slot();
    Site* site = context.sites.find(shard.site);
    if (site == nullptr) {
      done(failure(Errc::away, "the site is not configured"));
      continue;
    }
    site->store().put(context.namer.object_name(name), std::move(payload),
                      context.tags.make(shard.site, name, {ByteView(*shard.bytes)}),
                      {monotonic_now() + kDeadline, purpose}, std::move(done));
  }
  for (size_t i = 0; i < shards.size(); ++i) {
    const auto put = answers.answer(i);
    if (put) continue;
    out.failed.push_back(shards[i]);
    out.failed_sites.insert(shards[i].site);
    out.reasons += fmt::format("{}site {}: {}", out.reasons.empty() ? "" : "; ",
                               context.site_name(shards[i].site), put.error().message());
  }
  return out;
}

result<void> abandon_shards(BackgroundContext& context, StripeId stripe,
                            const std::vector<NewShard>& shards) {
  if (shards.empty()) return success();
  return context.threads.on_loop<void>([&]() -> result<void> {
    Transaction txn = context.store.begin();
    for (const auto& shard : shards) {
      context.revoke(txn, IdKind::instance, shard.instance);
      pb::PendingDeletion deletion;
      deletion.set_stripe(stripe);
      deletion.set_column(static_cast<uint32_t>(shard.column));
      deletion.set_instance(shard.instance);
      deletion.set_site(shard.site);
      deletion.set_bytes(shard.bytes ? shard.bytes->size() : 0);
      TRY(add_pending_deletion(txn, deletion));
    }
    TRY(context.committer.apply(std::move(txn)));
    context.collect();
    return success();
  });
}

result<std::map<int, Bytes>> rebuild_columns(const ErasureCode& code, const pb::Stripe& stripe,
                                             const std::map<int, Bytes>& have, ColumnSet wanted) {
  const size_t length = stripe.parity_bytes();
  std::map<int, Bytes> padded;
  std::vector<ByteView> shards(static_cast<size_t>(code.n()));
  ColumnSet present = 0;
  const Bytes zeros(length);
  for (int c = 0; c < code.n(); ++c) {
    const auto found = have.find(c);
    if (stripe.shards(c).state() == pb::SHARD_EMPTY) {
      shards[static_cast<size_t>(c)] = zeros;
    } else if (found == have.end() || contains(wanted, c)) {
      continue;
    } else if (found->second.size() == length) {
      shards[static_cast<size_t>(c)] = found->second;
    } else {
      Bytes& copy = padded[c] = found->second;
      copy.resize(length);
      shards[static_cast<size_t>(c)] = copy;
    }
    present |= ColumnSet{1} << c;
  }
  std::map<int, Bytes> out;
  std::vector<MutableByteView> views;
  for (int c = 0; c < code.n(); ++c) {
    if (!contains(wanted, c)) continue;
    out[c].resize(length);
  }
  for (auto& [c, bytes] : out) views.emplace_back(bytes);
  TRY(code.decode(wanted, present, shards, views));
  for (auto& [c, bytes] : out) bytes.resize(stripe.shards(c).bytes());
  return out;
}

std::string columns_text(ColumnSet columns) {
  std::string text;
  for (int c = 0; c < 32; ++c) {
    if (contains(columns, c)) text += fmt::format("{}{}", text.empty() ? "" : ", ", c);
  }
  return text;
}

}  // namespace datacloud
