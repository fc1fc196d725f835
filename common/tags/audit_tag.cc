// Tags, deltas and verification; the PRF is a two-block CBC-MAC with AES-128.
#include "common/tags/audit_tag.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "common/tags/tag_sums.h"

namespace datacloud {
namespace {

constexpr size_t kPrfKeyBytes = 16;

template <class T>
void put_le(uint8_t* to, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) to[i] = static_cast<uint8_t>(value >> (8 * i));
}

void encrypt(EVP_CIPHER_CTX* context, uint8_t* blocks, size_t bytes) {
  int length = 0;
  if (EVP_EncryptUpdate(context, blocks, &length, blocks, static_cast<int>(bytes)) != 1) {
    std::abort();
  }
}

FieldElement alpha_of(const SecretKey& key) { return field_element(key.view().subspan(16)); }

void xor_into(uint8_t* to, ByteView bytes) {
  for (size_t i = 0; i < bytes.size(); ++i) to[i] ^= bytes[i];
}

// The versions of the blocks of a run, as runs of one version each.
template <class Visit>
void for_each_version(const BlockVersions& versions, BlockRun run, Visit visit) {
  const uint64_t end = run.first + run.count;
  for (uint64_t at = run.first; at < end;) {
    const auto next =
        std::upper_bound(versions.begin(), versions.end(), at,
                         [](uint64_t block, const auto& r) { return block < r.first_block; });
    const uint64_t stop = next == versions.end() ? end : std::min(end, next->first_block);
    visit(BlockRun{at, stop - at}, next == versions.begin() ? 0 : std::prev(next)->version);
    at = stop;
  }
}

}  // namespace

SecretKey derive_audit_key(const SecretKey& service_key, const std::string& cloud_uuid,
                           SiteId site) {
  Bytes bytes = hkdf_sha256(service_key.view(),
                            "datacloud 1 audit " + cloud_uuid + " " + std::to_string(site), 32);
  const bool zero = std::all_of(bytes.begin() + kPrfKeyBytes, bytes.end(),
                                [](uint8_t byte) { return byte == 0; });
  if (zero) bytes[kPrfKeyBytes] = 1;
  SecretKey key{ByteView(bytes)};
  OPENSSL_cleanse(bytes.data(), bytes.size());
  return key;
}

InstanceId version_of(const BlockVersions& versions, uint64_t block) {
  InstanceId version = 0;
  for_each_version(versions, {block, 1}, [&](BlockRun, InstanceId v) { version = v; });
  return version;
}

BlockVersions rewritten(const BlockVersions& versions, std::vector<uint64_t> blocks,
                        uint64_t blocks_total, InstanceId version) {
  std::sort(blocks.begin(), blocks.end());
  BlockVersions out;
  const auto append = [&out](uint64_t first, InstanceId v) {
    if (out.empty() || out.back().version != v) out.push_back({first, v});
  };
  const auto keep = [&](uint64_t first, uint64_t end) {
    for_each_version(versions, {first, end - first},
                     [&](BlockRun run, InstanceId v) { append(run.first, v); });
  };
  uint64_t at = 0;
  for (const uint64_t block : blocks) {
    if (block < at || block >= blocks_total) continue;
    if (block > at) keep(at, block);
    append(block, version);
    at = block + 1;
  }
  if (at < blocks_total) keep(at, blocks_total);
  return out;
}

AuditTagger::AuditTagger(const SecretKey& audit_key)
    : key_(audit_key), polynomial_(alpha_of(audit_key)) {}

Bytes AuditTagger::prf(const AuditedColumn& column, BlockRun run, InstanceId version) const {
  std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(EVP_CIPHER_CTX_new(),
                                                                          EVP_CIPHER_CTX_free);
  if (!context ||
      EVP_EncryptInit_ex(context.get(), EVP_aes_128_ecb(), nullptr, key_.view().data(), nullptr) !=
          1 ||
      EVP_CIPHER_CTX_set_padding(context.get(), 0) != 1) {
    std::abort();
  }
  FieldElement first{};
  put_le(first.data(), column.stripe);
  put_le(first.data() + 8, version);
  encrypt(context.get(), first.data(), first.size());
  Bytes out(run.count * kFieldBytes);
  for (uint64_t i = 0; i < run.count; ++i) {
    uint8_t* second = out.data() + i * kFieldBytes;
    put_le(second, uint32_t{column.column});
    put_le(second + 4, static_cast<uint32_t>(run.first + i));
    xor_into(second, first);
  }
  encrypt(context.get(), out.data(), out.size());
  return out;
}

Bytes AuditTagger::tags(const AuditedColumn& column, InstanceId instance, ByteView shard) const {
  return tags(column, instance, std::vector<ByteView>{shard});
}

Bytes AuditTagger::tags(const AuditedColumn& column, InstanceId instance,
                        const std::vector<ByteView>& parts) const {
  TagSums sums(this);
  for (const auto& part : parts) sums.add(part);
  return tags_of_sums(column, instance, sums.finish());
}

void AuditTagger::block_sums(ByteView blocks, MutableByteView out) const {
  polynomial_.evaluate(blocks, out);
}

Bytes AuditTagger::tags_of_sums(const AuditedColumn& column, InstanceId instance,
                                ByteView sums) const {
  Bytes tags = prf(column, {0, sums.size() / kFieldBytes}, instance);
  xor_into(tags.data(), sums);
  return tags;
}

std::vector<XorRange> AuditTagger::tag_deltas(const AuditedColumn& column,
                                              const BlockVersions& before, InstanceId instance,
                                              uint64_t bytes_before, uint64_t bytes_after,
                                              const std::vector<XorRange>& difference,
                                              const std::vector<uint64_t>& also) const {
  std::map<uint64_t, Bytes> touched;  // block -> what its data changes by; empty: by nothing
  for (const uint64_t block : also) touched[block];
  const uint64_t blocks_before = audit_blocks_of(bytes_before);
  const uint64_t blocks_after = audit_blocks_of(bytes_after);
  for (uint64_t block = blocks_before; block < blocks_after; ++block) touched[block];
  for (const auto& range : difference) {
    for (size_t done = 0; done < range.bytes.size();) {
      const uint64_t at = range.offset + done;
      const size_t within = at % kAuditBlockBytes;
      const size_t n = std::min(range.bytes.size() - done, kAuditBlockBytes - within);
      Bytes& data = touched[at / kAuditBlockBytes];
      data.resize(kAuditBlockBytes);
      xor_into(data.data() + within, ByteView(range.bytes).subspan(done, n));
      done += n;
    }
  }
  std::vector<XorRange> deltas;
  for (const auto& [block, data] : touched) {
    Bytes delta = prf(column, {block, 1}, instance);
    if (block < blocks_before) {
      xor_into(delta.data(), prf(column, {block, 1}, version_of(before, block)));
    }
    if (!data.empty()) xor_into(delta.data(), polynomial_.evaluate(ByteView(data)));
    const uint64_t offset = block * kFieldBytes;
    if (!deltas.empty() && deltas.back().offset + deltas.back().bytes.size() == offset) {
      deltas.back().bytes.insert(deltas.back().bytes.end(), delta.begin(), delta.end());
    } else {
      deltas.push_back({offset, std::move(delta)});
    }
  }
  return deltas;
}

bool AuditTagger::verify_block(const AuditedColumn& column, uint64_t block, InstanceId version,
                               ByteView bytes, const FieldElement& tag) const {
  if (bytes.size() > kAuditBlockBytes) return false;
  const auto expected =
      field_add(field_element(prf(column, {block, 1}, version)), polynomial_.evaluate(bytes));
  return CRYPTO_memcmp(expected.data(), tag.data(), tag.size()) == 0;
}

std::vector<uint64_t> AuditTagger::failing_blocks(const AuditedColumn& column,
                                                  const BlockVersions& versions, BlockRun run,
                                                  ByteView bytes, ByteView tags) const {
  std::vector<uint64_t> failing;
  const uint64_t held =
      std::min(audit_blocks_of(bytes.size()), uint64_t{tags.size() / kFieldBytes});
  const uint64_t count = std::min(run.count, held);
  Bytes expected;
  for_each_version(versions, {run.first, count}, [&](BlockRun part, InstanceId version) {
    const Bytes values = prf(column, part, version);
    expected.insert(expected.end(), values.begin(), values.end());
  });
  Bytes sums(count * kFieldBytes);
  polynomial_.evaluate(bytes.first(std::min<uint64_t>(bytes.size(), count * kAuditBlockBytes)),
                       sums);
  xor_into(expected.data(), sums);
  for (uint64_t i = 0; i < run.count; ++i) {
    const size_t at = i * kFieldBytes;
    const bool good =
        i < count && std::equal(tags.begin() + static_cast<std::ptrdiff_t>(at),
                                tags.begin() + static_cast<std::ptrdiff_t>(at + kFieldBytes),
                                expected.begin() + static_cast<std::ptrdiff_t>(at));
    if (!good) failing.push_back(run.first + i);
  }
  return failing;
}

// sum of nu_i PRF(i) over the challenged blocks the shard has.
FieldElement AuditTagger::challenged_prf(const ShardFacts& shard,
                                         const AuditChallenge& challenge) const {
  FieldCombination sum(kFieldBytes);
  for (const auto& run : challenged_blocks(challenge, audit_blocks_of(shard.bytes))) {
    for_each_version(shard.versions, run, [&](BlockRun part, InstanceId version) {
      const Bytes values = prf(shard.column, part, version);
      std::vector<ByteView> elements;
      for (uint64_t i = 0; i < part.count; ++i) {
        elements.push_back(ByteView(values).subspan(i * kFieldBytes, kFieldBytes));
      }
      sum.add(challenge_coefficients(challenge, part), elements);
    });
  }
  return field_element(sum.sum());
}

bool AuditTagger::verify(const ShardFacts& shard, const AuditChallenge& challenge,
                         const AuditProof& proof) const {
  if (fault_of(challenge) != nullptr || proof.mu.size() != kAuditBlockBytes) return false;
  const auto expected =
      field_add(challenged_prf(shard, challenge), polynomial_.evaluate(ByteView(proof.mu)));
  return CRYPTO_memcmp(expected.data(), proof.tag.data(), proof.tag.size()) == 0;
}

AuditChallenge random_challenge(uint64_t blocks_total, uint64_t samples) {
  AuditChallenge challenge{{}, blocks_total, samples};
  // A predictable challenge proves nothing: there is no way to go on.
  if (RAND_bytes(challenge.seed.data(), static_cast<int>(challenge.seed.size())) != 1) std::abort();
  return challenge;
}

}  // namespace datacloud
