// Sizes of shards, and the filling of columns (shard_size.h).
#include "common/stripe/shard_size.h"

#include <bit>

namespace datacloud {

bool is_recorded_shard_bytes(uint32_t recorded) {
  return recorded == 0 || (std::has_single_bit(recorded) && recorded >= kShardPlainBytesMin &&
                           recorded <= kShardPlainBytesMax);
}

uint32_t recorded_shard_bytes(uint32_t bytes) { return bytes == kShardPlainBytesMax ? 0 : bytes; }

uint32_t shard_bytes_of(uint32_t recorded) {
  return recorded == 0 || !is_recorded_shard_bytes(recorded) ? kShardPlainBytesMax : recorded;
}

bool ColumnFill::add(uint64_t plain_bytes) {
  if (used_ > 0 && used_ + plain_bytes > shard_bytes_) {
    if (column_ + 1 >= k_) return false;
    ++column_;
    used_ = 0;
  }
  used_ += plain_bytes;
  return true;
}

}  // namespace datacloud
