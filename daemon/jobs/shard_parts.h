// Parts of shards in from the sites, for folds: read as whole audit blocks and verified by tag, so
// that nothing unverified is built upon and nothing more than needed travels. Blocks.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "daemon/jobs/shard_io.h"

namespace datacloud {

struct ShardParts {
  const pb::Stripe* stripe = nullptr;  // its record names the column PRESENT
  int column = 0;
  std::vector<ByteRange> wanted;  // inside the shard, in any order

  // Filled by read_parts: from -> verified bytes, or why there are none.
  std::map<uint64_t, Bytes> read;
  std::optional<ShardFailure> failed;

  // A wanted range, once it has been read without failure.
  ByteView at(ByteRange) const;
};

struct PartsRead {
  uint64_t bytes = 0;
  uint64_t bytes_between_sites = 0;  // from sites other than the local one
};
// Reads all of them, a bounded number at once.
PartsRead read_parts(BackgroundContext&, std::vector<ShardParts>&, Purpose);

}  // namespace datacloud
