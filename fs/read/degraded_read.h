// Choosing what to decode from: the bookkeeping of one degraded byte range. Pure; the owner of the
// job (StripeReadJob) does the reading, decoding and opening.
//
// A job covers one byte range of one lost column and every wanted slot in it. It first decodes from
// the cheapest set of columns. A block that then does not authenticate gets a job of its own, which
// searches: columns join one at a time, cheapest first, and with each all sets of k columns that
// contain the newcomer are tried, so that every set is tried once and no column is read before the
// sets without it are exhausted.
#pragma once

#include <cstdint>
#include <vector>

#include "common/codes/erasure_code.h"
#include "common/store/object_store.h"

namespace datacloud {

inline constexpr uint64_t kDegradedRangeBytesMax = 1u << 20;  // decoded by one job

struct DegradedRead {
  int lost = 0;
  ByteRange range;
  std::vector<size_t> wants;
  bool running = false;  // a decode is on the executor
  bool over = false;

  bool searching = false;
  ColumnSet joined = 0;           // columns of the sets tried or to be tried
  std::vector<ColumnSet> to_try;  // taken from the back
  int attempts = 0;
};

// All sets of k columns of joined + {column} that contain `column`, at most `count_max`.
std::vector<ColumnSet> sets_joined_by(ColumnSet joined, int column, int k, size_t count_max);

// Columns of `present` whose bytes contradict those decoded from `good`; all views have one length.
// `shards[c]` is given for the columns of both sets.
ColumnSet disproved_columns(const ErasureCode&, ColumnSet good, ColumnSet present,
                            const std::vector<ByteView>& shards);

}  // namespace datacloud
