// What derive, combine and prove compute, for back ends that read the object and do it outside.
//
// Pure: no I/O. Objects and attributes are a site's and trusted in nothing.
#pragma once

#include <vector>

#include "common/store/object_store.h"

namespace datacloud {

// The value of kInstanceAttribute. corrupt: absent or not 8 bytes.
result<uint64_t> instance_of(const Attributes&);
// The attributes every shard object carries.
Attributes shard_attributes(uint64_t instance, ByteView tags);

// invalid, see object_requests.h.
result<void> check_derivation(const Derivation&);
struct DerivedObject {
  Bytes data;
  Attributes attributes;           // the source's, with instance and tags of the new object
  uint64_t bytes_transferred = 0;  // when source and new object both cross the network
};
// corrupt: another instance, tags that do not fit, or a source longer than the new object.
result<DerivedObject> derive_object(Bytes source, Attributes attributes, const Derivation&);

// invalid, see object_requests.h.
result<void> check_combination(const Combination&);
// `ranges` as read: short ones count as zero-padded. The combination has been checked.
CombineReply combine_ranges(std::vector<Bytes> ranges, const Combination&);

struct ProofPlan {
  AuditChallenge challenge;
  uint64_t object_size = 0;
  uint64_t instance = 0;
  Bytes tags;
  std::vector<BlockRun> runs;
  std::vector<ByteRange> ranges;  // to read: one per run

  // corrupt: a range is shorter than asked for.
  result<AuditProof> prove(const std::vector<Bytes>& read) const;
};
// invalid: a challenge beyond its bounds. corrupt: no instance, or not one tag per audit block.
result<ProofPlan> plan_proof(const AuditChallenge&, uint64_t object_size, const Attributes&);

}  // namespace datacloud
