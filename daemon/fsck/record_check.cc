// The passes, one after the other.
#include "daemon/fsck/record_check.h"

#include <random>

#include "daemon/fsck/record_passes.h"
#include "daemon/metadata/record_keys.h"

namespace datacloud {
namespace {

// Reads of all passes, as far as the totals know: each entry once per range of inodes.
uint64_t expected_reads(const RecordSnapshot& view, const RecordCheckLimits& limits) {
  const auto raw = view.get(key::meta("totals"));
  Totals totals;
  if (!raw || !raw.value() || !decode_totals(*raw.value(), totals)) return 0;
  const uint64_t ranges = totals.inodes / std::max<size_t>(1, limits.table_inodes) + 1;
  return totals.inodes * (5 + ranges) + totals.stripes * 8;
}

}  // namespace

result<RecordCheckReport> check_records(const RecordSnapshot& view, const RecordCheckLimits& limits,
                                        RecordCheckProgress& progress) {
  struct Pass {
    const char* phase;
    result<void> (*run)(RecordPasses&);
  };
  static constexpr Pass kPasses[] = {
      {"inodes", check_inode_records}, {"directories", check_directories},
      {"links", check_links},          {"trees", check_trees},
      {"block runs", check_runs},      {"reservations", check_reservations},
      {"inline blocks", check_inline}, {"stripes", check_stripes},
      {"nodes", check_nodes},          {"ids", check_ids},
      {"journal", check_journal},      {"checkpoints", check_checkpoints},
      {"features", check_features},
  };
  RecordPasses passes{view, limits, progress, SetSums(limits.buckets, std::random_device{}())};
  progress.expected = expected_reads(view, limits);
  for (const auto& pass : kPasses) {
    progress.phase = pass.phase;
    TRY(pass.run(passes));
  }
  return std::move(passes.report);
}

}  // namespace datacloud
