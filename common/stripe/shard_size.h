// How long the data columns of a stripe may get: a matter of policy, kept in the stripe's record,
// so that what is merged stays as it was written. Small shards make a fold's copies at the sites
// small (daemon/fold/parity_fold.h); large ones need fewer objects and records. Pure arithmetic.
//
// Sizes are of plain bytes, a power of two from 64 KiB to 4 MiB and not less than a block. Sealed
// and not compressible, a full column is longer by kSealedOverheadBytes for each of its blocks.
#pragma once

#include <cstdint>

#include "common/stripe/stripe_layout.h"

namespace datacloud {

inline constexpr uint32_t kShardPlainBytesMin = 64u << 10;

// Records say 0 for kShardPlainBytesMax, which was the only size once.
bool is_recorded_shard_bytes(uint32_t recorded);
uint32_t recorded_shard_bytes(uint32_t bytes);
// Of a damaged record: kShardPlainBytesMax.
uint32_t shard_bytes_of(uint32_t recorded);

// Says how many blocks of a stripe fit into its columns, so that lay_out_stripe() makes none of
// them longer than `shard_bytes` (and the sealing).
class ColumnFill {
 public:
  ColumnFill(int k, uint32_t shard_bytes) : k_(k), shard_bytes_(shard_bytes) {}

  // The next block, in order; false: the stripe is full without it. An empty column takes any.
  bool add(uint64_t plain_bytes);

 private:
  int k_;
  uint64_t shard_bytes_;
  int column_ = 0;
  uint64_t used_ = 0;  // of that column
};

}  // namespace datacloud
