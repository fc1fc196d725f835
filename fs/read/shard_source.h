// The columns of one stripe as one read sees them: what of each shard is known, on its way, or not
// to be had, and why.
//
// Knows nothing of blocks and decodes nothing. Not synchronised: its owner holds a lock. It does
// no I/O itself: want() says which calls to make, accept() takes their answers.
//
// Invariants: a byte of a shard is asked for at most once; a column once erased stays erased for
// this read (shards are immutable, so asking again would tell nothing new).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/codes/erasure_code.h"
#include "common/proto/records.pb.h"
#include "common/site/site_set.h"
#include "common/stripe/stripe_layout.h"
#include "fs/read/read_times.h"
#include "fs/read/shard_ranges.h"
#include "fs/read/slow_sites.h"

namespace datacloud {

// Checks what a read relies on: n shards, slot arrays of one length. corrupt names the field.
result<void> check_stripe_record(const pb::Stripe&, const ErasureCode&);
// Slot `index` of a checked record; corrupt when it does not lie inside a stored data column.
result<Slot> slot_of(const pb::Stripe&, const ErasureCode&, uint32_t index);

struct ShardCall {
  uint64_t id = 0;
  int column = 0;
  Site* site = nullptr;
  std::vector<ByteRange> ranges;
  MonotonicTime issued;
};

class ShardSource {
 public:
  // `record` is checked and outlives this object.
  ShardSource(const pb::Stripe& record, const ErasureCode& code, SiteSet& sites, SlowSites& slow,
              ReadTimes& times, SiteId local_site);

  int n() const { return static_cast<int>(columns_.size()); }
  bool erased(int c) const { return columns_[c].erased; }
  bool late(int c) const { return columns_[c].late; }
  bool not_found(int c) const { return columns_[c].not_found; }
  bool any_not_found() const;
  // Columns that may still be read or are known.
  ColumnSet usable() const;
  int prompt_count() const;  // usable columns that are not late
  // What reading `range` of each column would cost; erased columns included (unusable anyway).
  std::vector<uint32_t> costs(const ByteRange& range) const;

  bool covers(int c, const ByteRange& r) const { return columns_[c].data.covers(r); }
  ByteRange clip(int c, const ByteRange& r) const { return columns_[c].data.clip(r); }
  ByteView view(int c, const ByteRange& r, std::vector<SharedBytes>& owners) const {
    return columns_[c].data.view(r, owners);
  }

  // Adds the calls that make `ranges` of column c known, except what is known or on its way.
  void want(int c, std::vector<ByteRange> ranges, MonotonicTime now, std::vector<ShardCall>& calls);
  void accept(const ShardCall&, result<ReadReply>, MonotonicTime now);

  // Columns at sites that usually answer late are late from the start. `bytes`: how many will be
  // wanted of each data column.
  void expect_late(const std::vector<uint64_t>& bytes);
  // Calls that have taken too long (ReadTimes) make their columns late, until they answer.
  void mark_late(MonotonicTime now);
  // When the next column becomes late unless it answers; max() when none is waited for.
  MonotonicTime next_late() const;

  // The column's bytes are not what was written: remembered for take_damage, once per column.
  void disprove(int c, const std::string& reason);
  bool disproved(int c) const { return columns_[c].disproved; }
  std::vector<pb::Damage> take_damage() { return std::exchange(damage_, {}); }

  // "2 of 5 shards can be read, 3 are needed; column 0 at tsukuba: away ..."
  std::string describe() const;
  void drop_data();

 private:
  struct InFlight {
    uint64_t id;
    MonotonicTime issued, late_at;
  };
  struct Column {
    const pb::Shard* record = nullptr;
    Site* site = nullptr;
    bool erased = false, not_found = false, late = false, disproved = false;
    Error why;
    ShardRanges data;
    IntervalSet requested;
    std::vector<InFlight> in_flight;
  };
  static const InFlight* next_late(const Column&);
  void erase(Column&, Error why);
  void accept_ranges(Column&, const ShardCall&, ReadReply);
  int index_of(const Column& c) const { return static_cast<int>(&c - columns_.data()); }

  const pb::Stripe& record_;
  const ErasureCode& code_;
  SlowSites& slow_;
  ReadTimes& times_;
  const SiteId local_site_;
  std::vector<Column> columns_;
  std::vector<pb::Damage> damage_;
  uint64_t calls_ = 0;
};

}  // namespace datacloud
