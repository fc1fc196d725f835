// See checkpoint_rules.h.
#include "daemon/checkpoint/checkpoint_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "common/base/bytes.h"
#include "daemon/journal/log_bytes.h"

namespace datacloud {
namespace {

constexpr uint32_t kCheckpointColumnsMax = 32;  // of a code

}  // namespace

std::string checkpoint_name(uint64_t number) { return fmt::format("{:016x}", number); }

bool valid_checkpoint(const pb::CheckpointRecord& record) {
  const std::set<uint32_t> sites(record.sites().begin(), record.sites().end());
  const bool known = record.state() == pb::CHECKPOINT_WRITING ||
                     record.state() == pb::CHECKPOINT_WHOLE ||
                     record.state() == pb::CHECKPOINT_RETIRING;
  const bool placed = !sites.empty() && !sites.contains(0) &&
                      sites.size() == static_cast<size_t>(record.sites_size()) &&
                      record.columns() > 0 && record.columns() <= kCheckpointColumnsMax;
  const bool whole = record.state() != pb::CHECKPOINT_WHOLE ||
                     (record.pieces() > 0 && record.position().size() == journal::kPositionBytes);
  return record.number() != 0 && known && placed && whole;
}

uint64_t covered_entry(const pb::CheckpointRecord& record) {
  if (record.position().size() != journal::kPositionBytes) return 0;
  return journal::get_position(as_bytes(record.position()), 0).sequence;
}

KeptCheckpoints choose_kept(const std::vector<pb::CheckpointRecord>& whole, bool full) {
  std::vector<const pb::CheckpointRecord*> order;
  for (const auto& record : whole) order.push_back(&record);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    const uint64_t of_a = covered_entry(*a), of_b = covered_entry(*b);
    return of_a != of_b ? of_a > of_b : a->made_ns() > b->made_ns();
  });
  const auto strong = [](const pb::CheckpointRecord* record) {
    return record->losses_survived() >= record->losses();
  };
  const size_t newest = std::min<size_t>(2, order.size());
  const auto behind = order.begin() + static_cast<std::ptrdiff_t>(newest);
  const bool enough = full || std::any_of(order.begin(), behind, strong);
  const auto extra = enough ? order.end() : std::find_if(behind, order.end(), strong);
  KeptCheckpoints chosen;
  for (auto at = order.begin(); at != order.end(); ++at) {
    const bool kept = at < behind || at == extra;
    (kept ? chosen.kept : chosen.retired).push_back((*at)->number());
    if (kept) chosen.floor = covered_entry(**at) + 1;
  }
  return chosen;
}

}  // namespace datacloud
