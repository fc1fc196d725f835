// One shard asked for the proof that it is held and, where the codeword of its stripe is tested
// (common/audit/stripe_challenge.h), for a combination of its packets.
//
// A site that computes is asked for both. Of one that does not the shard crosses the network for
// the proof anyway, so that it is read once and both are computed here: the combination is free.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "common/store/object_store.h"

namespace datacloud {

struct ShardQuestion {
  std::string object;
  uint64_t bytes = 0;  // as the record says; no more is read
  AuditChallenge challenge;
  std::optional<Combination> combination;
  bool read = false;  // instead of asking the site
};
struct ShardAnswer {
  result<AuditProof> proof;
  std::optional<result<CombineReply>> combined;  // of a question for a combination
};

// Starts; what it returns waits for the site's answer, once. The store must live until then.
std::function<ShardAnswer()> ask_shard(ObjectStore&, ShardQuestion, OpOptions);

// What a site with this shard would answer. The proof of a shard of another size has no block.
ShardAnswer answer_from_shard(const ShardQuestion&, result<ReadReply>);

}  // namespace datacloud
