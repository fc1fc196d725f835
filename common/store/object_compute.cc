// Derivation, combination and proof of one object in memory.
#include "common/store/object_compute.h"

#include <algorithm>

namespace datacloud {
namespace {

template <class Target>
void apply(const std::vector<XorRange>& ranges, Target& target) {
  for (const auto& range : ranges) {
    auto* to = reinterpret_cast<uint8_t*>(target.data()) + range.offset;
    for (size_t i = 0; i < range.bytes.size(); ++i) to[i] ^= range.bytes[i];
  }
}

std::string encode_instance(uint64_t instance) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(instance >> (8 * i)));
  return bytes;
}

uint64_t bytes_of(const Attributes& attributes) {
  uint64_t n = 0;
  for (const auto& [name, value] : attributes) n += name.size() + value.size();
  return n;
}

}  // namespace

result<uint64_t> instance_of(const Attributes& attributes) {
  const auto it = attributes.find(kInstanceAttribute);
  if (it == attributes.end() || it->second.size() != 8) {
    return failure(Errc::corrupt, "the object does not say which instance it is");
  }
  uint64_t instance = 0;
  for (size_t i = 0; i < 8; ++i) instance |= uint64_t{as_bytes(it->second)[i]} << (8 * i);
  return instance;
}

Attributes shard_attributes(uint64_t instance, ByteView tags) {
  return {{kInstanceAttribute, encode_instance(instance)},
          {kTagsAttribute, std::string(as_text(tags))}};
}

result<void> check_derivation(const Derivation& derivation) {
  const char* wrong = fault_of(derivation);
  return wrong == nullptr ? result<void>(success()) : failure(Errc::invalid, wrong);
}

result<DerivedObject> derive_object(Bytes source, Attributes attributes,
                                    const Derivation& derivation) {
  TRY(check_derivation(derivation));
  TRY(auto instance, instance_of(attributes));
  if (instance != derivation.source_instance) {
    return failure(Errc::corrupt, derivation.source + " is instance " + std::to_string(instance) +
                                      ", not " + std::to_string(derivation.source_instance));
  }
  if (source.size() > derivation.size) {
    return failure(Errc::corrupt, derivation.source + " is longer than what is derived from it");
  }
  auto& tags = attributes[kTagsAttribute];
  const size_t tags_bytes = kFieldBytes * audit_blocks_of(derivation.size);
  if (tags.size() > tags_bytes) {
    return failure(Errc::corrupt, derivation.source + " has more tags than audit blocks");
  }
  DerivedObject made;
  made.bytes_transferred = source.size() + bytes_of(attributes);
  tags.resize(tags_bytes);
  apply(derivation.tags, tags);
  attributes[kInstanceAttribute] = encode_instance(derivation.instance);
  source.resize(derivation.size);
  apply(derivation.data, source);
  made.data = std::move(source);
  made.attributes = std::move(attributes);
  made.bytes_transferred += made.data.size() + bytes_of(made.attributes);
  return made;
}

result<void> check_combination(const Combination& combination) {
  const char* wrong = fault_of(combination);
  return wrong == nullptr ? result<void>(success()) : failure(Errc::invalid, wrong);
}

CombineReply combine_ranges(std::vector<Bytes> ranges, const Combination& combination) {
  CombineReply reply;
  const size_t length = combination.ranges[0].length;
  std::vector<uint8_t> coefficients;
  std::vector<ByteView> sources;
  std::vector<MutableByteView> out;
  for (auto& range : ranges) {
    reply.bytes_transferred += range.size();
    range.resize(length);
    sources.push_back(range);
  }
  for (const auto& row : combination.coefficients) {
    coefficients.insert(coefficients.end(), row.begin(), row.end());
    reply.outputs.emplace_back(length);
  }
  for (auto& output : reply.outputs) out.push_back(output);
  gf256_combine(coefficients, sources, out);
  return reply;
}

result<ProofPlan> plan_proof(const AuditChallenge& challenge, uint64_t object_size,
                             const Attributes& attributes) {
  if (const char* wrong = fault_of(challenge)) return failure(Errc::invalid, wrong);
  ProofPlan plan{.challenge = challenge, .object_size = object_size};
  TRY(plan.instance, instance_of(attributes));
  const auto tags = attributes.find(kTagsAttribute);
  const uint64_t blocks = audit_blocks_of(object_size);
  const uint64_t tags_held = tags == attributes.end() ? 0 : tags->second.size() / kFieldBytes;
  if (tags_held != blocks) {
    return failure(Errc::corrupt, "the object has " + std::to_string(tags_held) + " tags for " +
                                      std::to_string(blocks) + " audit blocks");
  }
  if (blocks > 0) plan.tags = to_bytes(as_bytes(tags->second));
  plan.runs = challenged_blocks(challenge, blocks);
  for (const auto& run : plan.runs) {
    const uint64_t offset = run.first * kAuditBlockBytes;
    plan.ranges.push_back({offset, std::min(run.count * kAuditBlockBytes, object_size - offset)});
  }
  return plan;
}

result<AuditProof> ProofPlan::prove(const std::vector<Bytes>& read) const {
  AuditResponse response(challenge);
  AuditProof proof{.object_size = object_size, .instance = instance};
  proof.bytes_transferred = tags.size();
  for (size_t i = 0; i < runs.size(); ++i) {
    if (i >= read.size() || read[i].size() != ranges[i].length) {
      return failure(Errc::corrupt, "the object is shorter than it says");
    }
    const auto run_tags = ByteView(tags).subspan(runs[i].first * kFieldBytes);
    response.add(runs[i], read[i], run_tags.first(runs[i].count * kFieldBytes));
    proof.bytes_transferred += read[i].size();
  }
  proof.mu = response.mu();
  proof.tag = response.tag();
  return proof;
}

}  // namespace datacloud
