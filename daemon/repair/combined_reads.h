// Combinations computed next to the data, verified by the tags of what they were computed from.
//
// Tags act linearly: where packets begin at audit blocks, the combination of blocks has the
// combination of their tags, less the same combination of PRF values. A site that does not know the
// audit key cannot answer with other bytes and fitting tags (docs/format.md, "Audit tags"). So only
// the combined bytes and 16 bytes per audit block travel.
#pragma once

#include <map>
#include <vector>

#include "daemon/jobs/shard_io.h"

namespace datacloud {

struct CombinedRead {
  std::vector<Bytes> outputs;  // of all helpers, in their order
  std::vector<ShardFailure> failures;
  std::map<SiteId, uint64_t> bytes_by_site;
};
// Asks every helper of the plan for its outputs. Where packets do not begin at audit blocks, or a
// helper sends all it has, whole shards are read and combined here.
CombinedRead read_combined(BackgroundContext&, const ErasureCode&, const pb::Stripe&,
                           const RepairPlan&);

// Whether outputs are the combination of what the record's shard holds, by its tags (16 bytes per
// audit block). Ranges begin at audit blocks and are whole blocks long.
bool combination_verified(const AuditTagger&, const AuditedColumn&, const pb::Shard&,
                          const Combination&, const std::vector<Bytes>& outputs, ByteView tags);

}  // namespace datacloud
