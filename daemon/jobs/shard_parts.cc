// Ranges widened to audit blocks, joined, read and verified.
#include "daemon/jobs/shard_parts.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/jobs/fan_out.h"

namespace datacloud {
namespace {

constexpr auto kDeadline = seconds(30);  // of one read
constexpr size_t kReadsAtOnce = 64;

// Whole audit blocks (the shard's last may be short), ascending, apart.
std::vector<ByteRange> audit_ranges(std::vector<ByteRange> wanted, uint64_t shard_bytes) {
  std::sort(wanted.begin(), wanted.end(),
            [](const auto& a, const auto& b) { return a.offset < b.offset; });
  std::vector<ByteRange> out;
  for (const auto& range : wanted) {
    const uint64_t from = range.offset / kAuditBlockBytes * kAuditBlockBytes;
    const uint64_t to = std::min<uint64_t>(
        shard_bytes, audit_blocks_of(range.offset + range.length) * kAuditBlockBytes);
    if (!out.empty() && from <= out.back().offset + out.back().length) {
      const uint64_t end = std::max(to, out.back().offset + out.back().length);
      out.back().length = end - out.back().offset;
    } else {
      out.push_back({from, to - from});
    }
  }
  return out;
}

result<void> take(const BackgroundContext& context, ShardParts& parts,
                  const std::vector<ByteRange>& ranges, ReadReply reply) {
  const auto& shard = parts.stripe->shards(parts.column);
  const AuditTagger* tagger = context.tags.tagger(shard.site());
  if (tagger == nullptr) return failure(Errc::unavailable, "there is no audit key of its site");
  if (reply.object_size != shard.bytes() || reply.ranges.size() != ranges.size()) {
    return failure(Errc::corrupt, fmt::format("the object has {} bytes instead of {}",
                                              reply.object_size, shard.bytes()));
  }
  const auto tags = reply.attributes.find(kTagsAttribute);
  if (tags == reply.attributes.end() ||
      tags->second.size() != audit_blocks_of(shard.bytes()) * kFieldBytes) {
    return failure(Errc::corrupt, "its audit tags are missing or of the wrong length");
  }
  const AuditedColumn column{parts.stripe->id(), static_cast<uint8_t>(parts.column)};
  const auto versions = versions_of(shard);
  for (size_t i = 0; i < ranges.size(); ++i) {
    Bytes& bytes = reply.ranges[i];
    if (bytes.size() != ranges[i].length) {
      return failure(Errc::corrupt, fmt::format("{} bytes at {} instead of {}", bytes.size(),
                                                ranges[i].offset, ranges[i].length));
    }
    const BlockRun run{ranges[i].offset / kAuditBlockBytes, audit_blocks_of(ranges[i].length)};
    const auto failing = tagger->failing_blocks(
        column, versions, run, bytes,
        as_bytes(tags->second).subspan(run.first * kFieldBytes, run.count * kFieldBytes));
    if (!failing.empty()) {
      return failure(Errc::corrupt,
                     fmt::format("audit block {} fails its tag, and {} others of the {} read",
                                 failing.front(), failing.size() - 1, run.count));
    }
    parts.read[ranges[i].offset] = std::move(bytes);
  }
  return success();
}

}  // namespace

ByteView ShardParts::at(ByteRange range) const {
  const auto after = read.upper_bound(range.offset);
  const auto& [from, bytes] = *std::prev(after);
  return ByteView(bytes).subspan(range.offset - from, range.length);
}

PartsRead read_parts(BackgroundContext& context, std::vector<ShardParts>& all, Purpose purpose) {
  PartsRead read;
  for (size_t first = 0; first < all.size(); first += kReadsAtOnce) {
    const size_t count = std::min(kReadsAtOnce, all.size() - first);
    FanOut<ReadReply> answers;
    std::vector<std::vector<ByteRange>> asked(count);
    for (size_t i = 0; i < count; ++i) {
      const ShardParts& parts = all[first + i];
      const auto& shard = parts.stripe->shards(parts.column);
      auto done = answers.slot();
      Site* site = context.sites.find(shard.site());
      if (site == nullptr) {
        done(failure(Errc::away, "its site is not configured"));
        continue;
      }
      asked[i] = audit_ranges(parts.wanted, shard.bytes());
      uint64_t bytes = 0;
      for (const auto& range : asked[i]) bytes += range.length;
      context.threads.spend(shard.site(), bytes);
      const ShardName name{parts.stripe->id(), static_cast<uint8_t>(parts.column),
                           shard.instance()};
      site->store().read(context.namer.object_name(name), asked[i], true,
                         {monotonic_now() + kDeadline, purpose}, std::move(done));
    }
    for (size_t i = 0; i < count; ++i) {
      ShardParts& parts = all[first + i];
      auto reply = answers.answer(i);
      if (reply) {
        const bool is_remote = parts.stripe->shards(parts.column).site() != context.local_site;
        for (const auto& range : asked[i]) {
          read.bytes += range.length;
          if (is_remote) read.bytes_between_sites += range.length;
        }
      }
      auto taken = reply ? take(context, parts, asked[i], std::move(reply).value())
                         : result<void>(failure(reply.error()));
      if (!taken)
        parts.failed = ShardFailure{parts.column, is_damage(taken.error()), taken.error()};
    }
  }
  return read;
}

}  // namespace datacloud
