// The passes, one after the other.
#include "daemon/record_check.h"

#include <random>

#include "daemon/record_passes.h"

namespace datacloud {

result<RecordCheckReport> check_records(const RecordSnapshot& view, const RecordCheckLimits& limits,
                                        RecordCheckProgress& progress) {
  struct Pass {
    const char* phase;
    result<void> (*run)(RecordPasses&);
  };
  static constexpr Pass kPasses[] = {
      {"inodes", check_inode_records}, {"directories", check_directories}, {"links", check_links},
      {"block runs", check_runs},      {"stripes", check_stripes},         {"ids", check_ids},
  };
  RecordPasses passes{view, limits, progress, SetSums(limits.buckets, std::random_device{}())};
  for (const auto& pass : kPasses) {
    progress.phase = pass.phase;
    TRY(pass.run(passes));
  }
  return std::move(passes.report);
}

}  // namespace datacloud
