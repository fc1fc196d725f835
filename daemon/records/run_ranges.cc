// Parts of runs, and the runs of a part.
#include "daemon/records/run_ranges.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "daemon/metadata/record_keys.h"

namespace datacloud::run_ranges {

pb::Run clip(const pb::Run& run, uint64_t first, uint64_t end) {
  first = std::max(first, run.first_block());
  end = std::min(end, end_of(run));
  const uint64_t skip = first - run.first_block();
  pb::Run part = run;
  part.set_first_block(first);
  part.set_count(static_cast<uint32_t>(end - first));
  part.set_first_slot(static_cast<uint32_t>(run.first_slot() + skip));
  part.set_version(run.version() + skip);
  if (run.has_sealed_for()) {
    part.mutable_sealed_for()->set_first_block(run.sealed_for().first_block() + skip);
  }
  return part;
}

result<std::vector<pb::Run>> overlapping(const Transaction& txn, InodeId ino, uint64_t first,
                                         uint64_t end, size_t count_max) {
  std::vector<pb::Run> runs;
  if (first >= end) return runs;
  bool damaged = false;
  const auto take = [&](std::string_view value) {
    pb::Run run;
    damaged = !run.ParseFromArray(value.data(), static_cast<int>(value.size()));
    if (!damaged && end_of(run) > first) runs.push_back(std::move(run));
  };
  if (first > 0) {
    TRY(const auto before, txn.last(key::run(ino, 0), key::run(ino, first)));
    if (before) take(before->second);
  }
  TRY(txn.scan(key::run(ino, first), key::run(ino, end), [&](std::string_view, std::string_view v) {
    if (damaged || runs.size() >= count_max) return false;
    take(v);
    return true;
  }));
  if (damaged) {
    return failure(Errc::corrupt, "block map of inode " + std::to_string(ino) +
                                      " does not parse; stop the daemon and restore its state");
  }
  return runs;
}

}  // namespace datacloud::run_ranges
