// Running counters over the whole cloud, one record, changed in the transaction that changes what
// they count; check_block_map recounts them.
#pragma once

#include <cstdint>

#include "daemon/metadata/metadata_store.h"

namespace datacloud {

struct Totals {
  uint64_t inodes = 0;                // orphans included, until they are reclaimed
  uint64_t blocks_logical_bytes = 0;  // file bytes in mapped blocks (holes do not count)
  uint64_t live_bytes = 0;            // sealed bytes of live slots
  uint64_t stored_bytes = 0;          // bytes of shards that are present
  uint64_t stripes = 0;
  uint64_t stripes_weak = 0;
  uint64_t shards_missing = 0;
  bool operator==(const Totals&) const = default;
};

// The record's bytes. False when they are damaged.
std::string encode_totals(const Totals&);
bool decode_totals(std::string_view, Totals&);
// Field by field, modulo 2^64.
Totals difference(const Totals&, const Totals&);
Totals sum(const Totals&, const Totals&);

result<Totals> read_totals(const Transaction&);  // all zero when there is no record
void write_totals(Transaction&, const Totals&);

}  // namespace datacloud
