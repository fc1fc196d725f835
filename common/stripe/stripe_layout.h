// Slots in a stripe: where each sealed block lies. Pure arithmetic.
//
// Sealed blocks are placed column after column (adjacent blocks share a shard, so a small file is
// one range of one shard). A slot never crosses a column. Data columns keep only the bytes they
// use; bytes beyond a column's length count as zero for the code; a data column without slots is
// "empty" and not stored. Parity columns are as long as the longest data column, rounded up to a
// multiple of the code's packets; where that costs little, to packets of whole audit blocks, so
// that sites can combine them and tags prove what they send (daemon/repair/combined_reads.h).
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/error.h"

namespace datacloud {

inline constexpr uint32_t kShardPlainBytesMax = 4u << 20;  // plain bytes one data column takes
inline constexpr uint32_t kStripeSlotsMax = 4096;
inline constexpr uint32_t kPacketBlockBytes = 4096;  // an audit block
inline constexpr uint32_t kAlignedBlocksMin = 32;    // of a packet: at most 3 % is padding

struct Slot {
  uint32_t column = 0;
  uint32_t offset = 0;  // bytes from the start of the shard
  uint32_t length = 0;  // bytes of the sealed block
  bool operator==(const Slot&) const = default;
};

struct StripeLayout {
  std::vector<Slot> slots;
  std::vector<uint32_t> data_lengths;  // k entries, bytes used per data column
  uint32_t parity_length = 0;          // bytes of every parity shard
};

// Distributes sealed blocks of the given lengths, in order, over k columns, as evenly as their
// order allows: the longest column is as short as possible (minimises parity bytes), except
// that a total of at most `spread_min_bytes` stays in one column. invalid when empty or more than
// kStripeSlotsMax.
result<StripeLayout> lay_out_stripe(const std::vector<uint32_t>& sealed_lengths, int k, int packets,
                                    uint32_t spread_min_bytes);

// Checks a slot list from a record: inside k columns, inside column_lengths, not overlapping.
result<void> validate_slots(const std::vector<Slot>&, int k,
                            const std::vector<uint32_t>& column_lengths);

}  // namespace datacloud
