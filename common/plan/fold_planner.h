// How to bring updates, first written as small stripes, into the stripe they supersede blocks of:
// with the fewest bytes between sites for exactly the set of blocks at hand. Pure arithmetic.
//
//   parity_delta   new instances of the touched data columns, of the parity columns and of the XOR
//                  row's same columns are derived at their sites from the old ones and the change
//   reencode       the touched data columns are packed again, all parity is computed from all data
//   merge          every live block, updated or not, goes to a new stripe; the base is dropped
//   merge_updates  only the updated blocks go to a new stripe and the base keeps dead bytes: when
//   no
//                  block fits its slot, and for folds that stay blocked for too long. It would
//                  always win by bytes, so it is not compared otherwise; live_share_min bounds it
//
// No rule of thumb decides, the byte counts do; then bytes moved on the sites' disks, then
// operations. Not counted: tags of touched audit blocks (0.4 %), and what dropping a base costs its
// group, because that waits until it is cheaper than keeping it.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/codes/erasure_code.h"
#include "common/plan/repair_planner.h"
#include "common/stripe/stripe_layout.h"

namespace datacloud {

struct FoldBlock {
  Slot slot;                                      // of the base stripe, superseded by this update
  uint32_t new_bytes = 0;                         // of the newest sealed block
  SiteId new_site = 0;                            // where that can be read
  bool old_at_hand = false, new_at_hand = false;  // verified here already, need not be read
};

struct FoldColumns {
  uint64_t parity_bytes = 0;
  std::vector<uint64_t> shard_bytes;  // n; 0: not stored
  std::vector<SiteId> sites;          // n
  ColumnSet damaged = 0;              // missing, unreachable or reported bad
};

struct FoldProblem {
  const ErasureCode& code;
  FoldColumns base;
  std::vector<Slot> live;              // slots of the base that are mapped and not updated here
  std::optional<FoldColumns> xor_row;  // of the base's group
  std::vector<FoldBlock> updates;      // one for each slot, the newest
  SiteId local_site = 0;               // where this process computes; 0: everything crosses a link
  // Sites where a column's change can be worked into the XOR row's column beside it; elsewhere that
  // change travels again.
  std::vector<SiteId> working_sites;
  uint64_t shard_bytes_max = kShardPlainBytesMax;  // of a column that is packed again
  uint32_t spread_min_bytes = 0;                   // as lay_out_stripe, of new stripes
  double live_share_min = 0;      // a base with less of its data bytes live after it is merged
  bool blocked_too_long = false;  // merge_updates may be chosen although a fold is only blocked
};

enum class FoldKind { parity_delta, reencode, merge, merge_updates };
const char* fold_kind_name(FoldKind);

// Compared in this order: bytes between sites, bytes on disks, operations.
struct FoldCost {
  uint64_t inter_site_read_bytes = 0, inter_site_written_bytes = 0;
  uint64_t disk_bytes = 0;    // read and written at all sites, copies by derive included
  uint64_t copied_bytes = 0;  // of the shards that sites derive new instances of; never compared
  uint64_t operations = 0;    // objects read, derived, written
  uint64_t inside_site_bytes =
      0;  // changes of the XOR row that do not cross a link; never compared
  uint64_t inter_site_bytes() const { return inter_site_read_bytes + inter_site_written_bytes; }
  std::strong_ordering operator<=>(const FoldCost&) const;
  bool operator==(const FoldCost& other) const { return (*this <=> other) == 0; }
};

struct FoldAlternative {
  FoldKind kind = FoldKind::parity_delta;
  FoldCost cost;           // meaningful when possible
  std::string impossible;  // why it is not possible now; empty when it is
};

struct FoldPlan {
  std::optional<FoldKind> chosen;             // none: wait, the texts say for what
  std::vector<FoldAlternative> alternatives;  // all four, in the order of FoldKind
  // Indices of updates; of a parity delta, leftovers do not fit their slots and go to a new stripe.
  std::vector<size_t> folded, leftovers;
};

// invalid when columns, slots or updates do not fit the code or each other.
result<FoldPlan> plan_fold(const FoldProblem&);
// One line for each alternative with its bytes; the chosen one is marked.
std::vector<std::string> explain(const FoldPlan&);

// The paper's cost of an update, in blocks read, when every block is a shard and all arithmetic is
// done away from the data (CORE, Table I): `updated` cells of t rows of k data columns. t = 0: a
// row by itself; m = 0: a column by itself. For comparison and benchmarks.
struct PaperReads {
  uint64_t reencode = 0, parity_update = 0;
};
PaperReads paper_update_reads(int k, int m, int t, const std::vector<Cell>& updated);

}  // namespace datacloud
