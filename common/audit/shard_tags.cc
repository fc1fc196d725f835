// Attributes in and out.
#include "common/audit/shard_tags.h"

#include <mutex>

#include <fmt/format.h>

namespace datacloud {
namespace {

std::string instance_text(InstanceId instance) {
  std::string text(8, 0);
  for (int i = 0; i < 8; ++i) text[static_cast<size_t>(i)] = static_cast<char>(instance >> (8 * i));
  return text;
}

AuditedColumn audited(const pb::Stripe& stripe, int column) {
  return {stripe.id(), static_cast<uint8_t>(column)};
}

Error no_key(SiteId site) {
  return Error(Errc::corrupt, fmt::format("there is no audit key of site {}", site));
}

}  // namespace

ShardTags::ShardTags(const std::map<SiteId, SecretKey>& audit_keys) {
  for (const auto& [site, key] : audit_keys) taggers_.emplace(site, AuditTagger(key));
}

std::map<SiteId, SecretKey> ShardTags::derive_keys(const SecretKey& service_key,
                                                   const pb::Cloud& cloud) {
  std::map<SiteId, SecretKey> keys;
  for (const auto& site : cloud.sites()) {
    keys[site.id()] = derive_audit_key(service_key, cloud.uuid(), site.id());
  }
  return keys;
}

Attributes ShardTags::make(SiteId site, const ShardName& name,
                           const std::vector<ByteView>& parts) const {
  Attributes attributes;
  attributes[kInstanceAttribute] = instance_text(name.instance);
  if (const AuditTagger* t = tagger(site)) {
    const Bytes tags = t->tags({name.stripe, name.column}, name.instance, parts);
    attributes[kTagsAttribute] = std::string(as_text(tags));
  }
  return attributes;
}

Attributes ShardTags::make_from_sums(SiteId site, const ShardName& name, ByteView sums) const {
  Attributes attributes;
  attributes[kInstanceAttribute] = instance_text(name.instance);
  if (const AuditTagger* t = tagger(site)) {
    const Bytes tags = t->tags_of_sums({name.stripe, name.column}, name.instance, sums);
    attributes[kTagsAttribute] = std::string(as_text(tags));
  }
  return attributes;
}

result<void> ShardTags::verify(const pb::Stripe& stripe, int column, ByteView bytes,
                               const Attributes& attributes) const {
  const auto& shard = stripe.shards(column);
  const AuditTagger* t = tagger(shard.site());
  if (t == nullptr) return failure(no_key(shard.site()));
  if (bytes.size() != shard.bytes()) {
    return failure(Errc::corrupt,
                   fmt::format("{} bytes instead of {}", bytes.size(), shard.bytes()));
  }
  const uint64_t blocks = audit_blocks_of(bytes.size());
  const auto tags = attributes.find(kTagsAttribute);
  if (tags == attributes.end() || tags->second.size() != blocks * kFieldBytes) {
    return failure(Errc::corrupt, "its audit tags are missing or of the wrong length");
  }
  const auto failing = t->failing_blocks(audited(stripe, column), versions_of(shard), {0, blocks},
                                         bytes, as_bytes(tags->second));
  if (failing.empty()) return success();
  return failure(Errc::corrupt,
                 fmt::format("{} of its {} audit blocks fail their tags, the first is {}",
                             failing.size(), blocks, failing.front()));
}

result<void> ShardTags::verify_proof(const pb::Stripe& stripe, int column,
                                     const AuditChallenge& challenge,
                                     const AuditProof& proof) const {
  const auto& shard = stripe.shards(column);
  const AuditTagger* t = tagger(shard.site());
  if (t == nullptr) return failure(no_key(shard.site()));
  const ShardFacts facts{audited(stripe, column), shard.instance(), shard.bytes(),
                         versions_of(shard)};
  if (t->verify(facts, challenge, proof)) return success();
  return failure(Errc::corrupt, "the proof is wrong");
}

void ShardTags::add(SiteId site, const SecretKey& key) {
  std::unique_lock lock(*mutex_);
  taggers_.emplace(site, AuditTagger(key));
}

const AuditTagger* ShardTags::tagger(SiteId site) const {
  std::shared_lock lock(*mutex_);
  const auto it = taggers_.find(site);
  return it == taggers_.end() ? nullptr : &it->second;
}

BlockVersions versions_of(const pb::Shard& shard) {
  if (shard.versions_size() == 0) return {{0, shard.instance()}};
  BlockVersions versions;
  for (const auto& run : shard.versions()) versions.push_back({run.first_block(), run.version()});
  return versions;
}

void set_versions(pb::Shard& shard, const BlockVersions& versions) {
  shard.clear_versions();
  if (versions.size() == 1 && versions[0].version == shard.instance()) return;
  for (const auto& run : versions) {
    auto* out = shard.add_versions();
    out->set_first_block(run.first_block);
    out->set_version(run.version);
  }
}

}  // namespace datacloud
