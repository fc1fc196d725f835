// Homomorphic audit tags: made by writers, moved along by folds, verified by auditors.
//
// Each site j has an audit key (K_j, alpha_j), known to writers and auditors and never to the site.
// The tag of audit block i of a shard at that site is
//     PRF(stripe, column, i, version) + sum over c = 1..256 of alpha^c m_c
// where version is the instance id whose put or derive last wrote the block. One PRF input covers
// one content for ever: two contents under one input would reveal alpha (docs/format.md, "Audit
// tags"; Shacham and Waters, "Compact Proofs of Retrievability", J. Cryptology 26 (2013),
// sec. 3.2).
//
// Thread safety: const methods from any thread.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/codes/erasure_code.h"
#include "common/crypto/keys.h"
#include "common/tags/object_requests.h"

namespace datacloud {

// K (16 bytes) | alpha (16 bytes, never zero).
SecretKey derive_audit_key(const SecretKey& service_key, const std::string& cloud_uuid, SiteId);

struct AuditedColumn {
  StripeId stripe = 0;
  uint8_t column = 0;
  bool operator==(const AuditedColumn&) const = default;
};

// Versions of the audit blocks of a shard: blocks from `first_block` to the next run's carry
// `version`. Ascending, the first from block 0.
struct VersionRun {
  uint64_t first_block = 0;
  InstanceId version = 0;
  bool operator==(const VersionRun&) const = default;
};
using BlockVersions = std::vector<VersionRun>;
// 0 when there is no run.
InstanceId version_of(const BlockVersions&, uint64_t block);
// The versions after `blocks` (any order, repetitions allowed) have been written as `version`.
BlockVersions rewritten(const BlockVersions&, std::vector<uint64_t> blocks, uint64_t blocks_total,
                        InstanceId version);

// What an auditor knows of a shard from the metadata, against which a proof is judged.
struct ShardFacts {
  AuditedColumn column;
  InstanceId instance = 0;
  uint64_t bytes = 0;
  BlockVersions versions;
};

class AuditTagger {
 public:
  // Makes tables of 40 to 300 KiB in a fraction of a millisecond: keep it.
  explicit AuditTagger(const SecretKey& audit_key);

  // The tags of a shard that is the concatenation of `parts`, all blocks written as `instance`: 16
  // bytes per audit block.
  Bytes tags(const AuditedColumn&, InstanceId, const std::vector<ByteView>& parts) const;
  Bytes tags(const AuditedColumn&, InstanceId, ByteView shard) const;
  // In two steps, for those who have the bytes before the name (tag_sums.h): 16 bytes per block of
  // `blocks`, the last of which counts as zero-padded, and tags from the sums of all blocks.
  void block_sums(ByteView blocks, MutableByteView out) const;
  Bytes tags_of_sums(const AuditedColumn&, InstanceId, ByteView sums) const;

  // PRF values of blocks of one version, 16 bytes each.
  Bytes prf(const AuditedColumn&, BlockRun, InstanceId version) const;

  // What to XOR into the tags when `difference` is XORed into the data from `offset` on and every
  // block it touches becomes version `instance`; differences may overlap. `bytes_before` and
  // `bytes_after`: of the shard; blocks past the end before have no version and tags of zero.
  // Blocks of `also` and those the shard grows by are given the new version too, changed or not.
  // The old data is not needed, nor are the old tags.
  std::vector<XorRange> tag_deltas(const AuditedColumn&, const BlockVersions& before,
                                   InstanceId instance, uint64_t bytes_before, uint64_t bytes_after,
                                   const std::vector<XorRange>& difference,
                                   const std::vector<uint64_t>& also = {}) const;

  // Whether bytes read from a site are a block as it was written (short: the shard's last).
  bool verify_block(const AuditedColumn&, uint64_t block, InstanceId version, ByteView bytes,
                    const FieldElement& tag) const;
  // Blocks of a run, as verify_block for each: those that fail.
  std::vector<uint64_t> failing_blocks(const AuditedColumn&, const BlockVersions&, BlockRun,
                                       ByteView bytes, ByteView tags) const;

  // Whether a proof answers the challenge for what the shard must be. A cheating site passes with
  // probability 2^-120. Size and instance in the proof are the site's own words and not looked at.
  bool verify(const ShardFacts&, const AuditChallenge&, const AuditProof&) const;

 private:
  FieldElement challenged_prf(const ShardFacts&, const AuditChallenge&) const;

  const SecretKey key_;
  const FieldPolynomial polynomial_;
};

// Fresh and unpredictable.
AuditChallenge random_challenge(uint64_t blocks_total, uint64_t samples);

// The keyless check: under one challenge the mu of all columns are a codeword, because the code
// acts on them as on shards. mus[c] is the answer of column c in `present`; columns that are not
// stored count as zero and are present. Returns the smallest set of columns without which the rest
// are a codeword (empty: all are); nullopt when none of up to half the losses that are survived, or
// of two, explains it. For codes of several packets: combinations instead (stripe_challenge.h).
std::optional<ColumnSet> columns_in_error(const ErasureCode&, ColumnSet present,
                                          const std::vector<Bytes>& mus);

// Chance that r sampled of l blocks meet one of z bad ones: 1 - C(l-z, r) / C(l, r).
double detection_probability(uint64_t blocks, uint64_t bad, uint64_t samples);
// The fewest samples that detect `bad` of `blocks` with at least this probability.
uint64_t samples_to_detect(uint64_t blocks, uint64_t bad, double probability);

}  // namespace datacloud
