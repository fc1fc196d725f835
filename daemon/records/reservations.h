// What fallocate(2) has reserved: ranges of blocks of files (records `H`), and the bytes they add
// up to, by tree and code (records `h`).
//
// A range stays reserved while its blocks get contents and are overwritten; it is given back by
// holes (InodeUpdate.unreserve), truncation and with the file. Invariants, checked by
// check_block_map and fsck: an inode has the flag kInodeReserved exactly while it has an `H`, whose
// ranges are in order and neither touch nor overlap; `blocks_reserved` of the inode counts their
// blocks without contents; `h` are the sums of whole ranges, and never 0.
//
// Functions of the loop; pure changes of a transaction.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/proto/records.pb.h"
#include "common/proto/rpc.pb.h"
#include "daemon/metadata/metadata_store.h"

namespace datacloud::reservations {

// Ranges of one file: its record is read and written with every commit that touches them. What
// would make more is refused, or, where holes split ranges, costs the smallest ones.
inline constexpr size_t kRangesMax = 1024;

struct Range {
  uint64_t first = 0, end = 0;  // blocks
  uint64_t count() const { return end - first; }
  bool operator==(const Range&) const = default;
};

// The ranges of one file, while its map is changed. The caller tells what becomes of blocks, in the
// order in which it happens, and saves at the end.
class Held {
 public:
  // Of the inode's record; no ranges when it has none.
  static result<Held> of(const Transaction&, const pb::Inode&);
  // Of ranges in any order; empty ones and those that reach beyond 2^64 are left out.
  static Held of(const pb::Reservation&);

  const std::vector<Range>& ranges() const { return ranges_; }
  uint64_t blocks() const;                               // of all ranges
  uint64_t overlap(uint64_t first, uint64_t end) const;  // reserved blocks among these

  // Blocks that had no contents have got some, or the other way round.
  void mapped(pb::Inode&, uint64_t first, uint64_t end) const;
  void unmapped(pb::Inode&, uint64_t first, uint64_t end) const;
  // Gives back blocks that have no contents.
  void remove(pb::Inode&, uint64_t first, uint64_t end);
  // Reserves blocks; the map, as it is in the transaction, tells which have contents.
  result<void> add(const Transaction&, pb::Inode&, uint64_t first, uint64_t end);
  // Ranges alone, without an inode's counts.
  void take_out(uint64_t first, uint64_t end);
  void put_in(uint64_t first, uint64_t end);
  // All, with the file.
  void clear(pb::Inode&);

  // Writes record, flag and sums; the caller puts the inode. Beyond kRangesMax the smallest ranges
  // are given back.
  result<void> save(Transaction&, pb::Inode&);
  pb::Reservation record() const;

 private:
  std::vector<Range> ranges_;
  uint64_t blocks_before_ = 0;
};

// How many blocks more than now the update would have reserved (fewer: negative), and whether that
// would be too many ranges.
struct Planned {
  int64_t blocks = 0;
  bool too_many_ranges = false;
};
result<Planned> plan(const Transaction&, const pb::Inode&, const pb::InodeUpdate&);

// Whether all blocks that the update maps are reserved.
result<bool> covers(const Transaction&, const pb::Inode&, const pb::InodeUpdate&);

// The inode's sums go from its tree to another.
result<void> move(Transaction&, const pb::Inode&, uint32_t to);

// Reserved bytes of files (not of shards) by code: of the cloud, or of one tree.
using Demand = std::map<std::string, uint64_t>;
result<Demand> demand(const Transaction&);
result<Demand> demand_of_tree(const Transaction&, uint32_t tree);
uint64_t total(const Demand&);

// Reserved ranges among the asked blocks, for MapReply.reserved.
result<std::vector<pb::BlockRange>> within(const Transaction&, InodeId, uint64_t first,
                                           uint64_t end);

// The key of a sum taken apart; false: it is none.
bool parse_sum_key(std::string_view key, uint32_t& tree, std::string& code);
// The value: 8 bytes, big-endian.
std::string sum_value(uint64_t bytes);

}  // namespace datacloud::reservations
