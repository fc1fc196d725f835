#include "daemon/records/reservations.h"

#include <algorithm>
#include <utility>

#include "common/base/inode_flags.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/run_ranges.h"

namespace datacloud::reservations {
namespace {

constexpr size_t kRunsPerStep = 4096;
constexpr size_t kSumKeyHead = 5;  // letter and tree

// The blocks of [first, end) that have contents.
result<uint64_t> count_mapped(const Transaction& txn, InodeId ino, uint64_t first, uint64_t end) {
  uint64_t mapped = 0;
  while (first < end) {
    TRY(const auto runs, run_ranges::overlapping(txn, ino, first, end, kRunsPerStep));
    for (const auto& run : runs) mapped += run_ranges::clip(run, first, end).count();
    if (runs.size() < kRunsPerStep) break;
    first = std::max(first + 1, run_ranges::end_of(runs.back()));
  }
  return mapped;
}

result<void> count(Transaction& txn, uint32_t tree, const std::string& code, uint64_t bytes) {
  if (bytes == 0) return success();
  const std::string k = key::reserved_sum(tree, code);
  TRY(const auto stored, txn.get(k));
  const uint64_t before = stored && stored->size() == 8 ? key::u64_at(*stored, 0) : 0;
  if (before + bytes == 0) {
    txn.erase(k);
  } else {
    txn.put(k, sum_value(before + bytes));
  }
  return success();
}

result<Demand> demand_between(const Transaction& txn, const std::string& first,
                              const std::string& end) {
  Demand out;
  TRY(txn.scan(first, end, [&](std::string_view k, std::string_view v) {
    uint32_t tree = 0;
    std::string code;
    if (parse_sum_key(k, tree, code) && v.size() == 8) out[code] += key::u64_at(v, 0);
    return true;
  }));
  return out;
}

}  // namespace

result<Held> Held::of(const Transaction& txn, const pb::Inode& inode) {
  if (!(inode.flags() & kInodeReserved)) return Held();
  pb::Reservation record;
  TRY(txn.get(key::reservation(inode.ino()), record));
  Held held = of(record);
  held.blocks_before_ = held.blocks();
  return held;
}

Held Held::of(const pb::Reservation& record) {
  Held held;
  for (const auto& range : record.ranges()) {
    if (range.first() > UINT64_MAX - range.count()) continue;
    held.put_in(range.first(), range.first() + range.count());
  }
  return held;
}

uint64_t Held::blocks() const {
  uint64_t blocks = 0;
  for (const auto& range : ranges_) blocks += range.count();
  return blocks;
}

uint64_t Held::overlap(uint64_t first, uint64_t end) const {
  uint64_t blocks = 0;
  auto at = std::partition_point(ranges_.begin(), ranges_.end(),
                                 [&](const Range& range) { return range.end <= first; });
  for (; at != ranges_.end() && at->first < end; ++at) {
    blocks += std::min(at->end, end) - std::max(at->first, first);
  }
  return blocks;
}

void Held::mapped(pb::Inode& inode, uint64_t first, uint64_t end) const {
  if (ranges_.empty()) return;
  inode.set_blocks_reserved(inode.blocks_reserved() - overlap(first, end));
}

void Held::unmapped(pb::Inode& inode, uint64_t first, uint64_t end) const {
  if (ranges_.empty()) return;
  inode.set_blocks_reserved(inode.blocks_reserved() + overlap(first, end));
}

void Held::take_out(uint64_t first, uint64_t end) {
  std::vector<Range> kept;
  kept.reserve(ranges_.size() + 1);
  for (const auto& range : ranges_) {
    if (range.end <= first || range.first >= end) {
      kept.push_back(range);
      continue;
    }
    if (range.first < first) kept.push_back({range.first, first});
    if (range.end > end) kept.push_back({end, range.end});
  }
  ranges_ = std::move(kept);
}

void Held::put_in(uint64_t first, uint64_t end) {
  if (first >= end) return;
  Range added{first, end};
  std::vector<Range> kept;
  kept.reserve(ranges_.size() + 1);
  for (const auto& range : ranges_) {
    if (range.end < added.first || range.first > added.end) {
      kept.push_back(range);
    } else {
      added = {std::min(added.first, range.first), std::max(added.end, range.end)};
    }
  }
  const auto at = std::partition_point(
      kept.begin(), kept.end(), [&](const Range& range) { return range.first < added.first; });
  kept.insert(at, added);
  ranges_ = std::move(kept);
}

void Held::remove(pb::Inode& inode, uint64_t first, uint64_t end) {
  if (ranges_.empty()) return;
  inode.set_blocks_reserved(inode.blocks_reserved() - overlap(first, end));
  take_out(first, end);
}

result<void> Held::add(const Transaction& txn, pb::Inode& inode, uint64_t first, uint64_t end) {
  Held gaps;
  gaps.put_in(first, end);
  for (const auto& range : ranges_) gaps.take_out(range.first, range.end);
  for (const auto& gap : gaps.ranges_) {
    uint64_t mapped = 0;
    if (inode.blocks_mapped() > 0) {
      TRY(mapped, count_mapped(txn, inode.ino(), gap.first, gap.end));
    }
    inode.set_blocks_reserved(inode.blocks_reserved() + gap.count() - mapped);
  }
  put_in(first, end);
  return success();
}

void Held::clear(pb::Inode& inode) {
  ranges_.clear();
  inode.set_blocks_reserved(0);
}

pb::Reservation Held::record() const {
  pb::Reservation record;
  for (const auto& range : ranges_) {
    auto* out = record.add_ranges();
    out->set_first(range.first);
    out->set_count(range.count());
  }
  return record;
}

result<void> Held::save(Transaction& txn, pb::Inode& inode) {
  const bool flagged = inode.flags() & kInodeReserved;
  if (!flagged && ranges_.empty()) return success();
  while (ranges_.size() > kRangesMax) {
    const Range least =
        *std::min_element(ranges_.begin(), ranges_.end(),
                          [](const Range& a, const Range& b) { return a.count() < b.count(); });
    TRY(const uint64_t mapped, count_mapped(txn, inode.ino(), least.first, least.end));
    inode.set_blocks_reserved(inode.blocks_reserved() - (least.count() - mapped));
    take_out(least.first, least.end);
  }
  const std::string k = key::reservation(inode.ino());
  if (ranges_.empty()) {
    txn.erase(k);
    inode.set_flags(inode.flags() & ~kInodeReserved);
    inode.set_blocks_reserved(0);
  } else {
    const std::string value = record().SerializeAsString();
    TRY(const auto stored, txn.get(k));
    if (!stored || *stored != value) txn.put(k, value);
    inode.set_flags(inode.flags() | kInodeReserved);
  }
  const uint64_t after = blocks(), block = inode.policy().block_bytes();
  TRY(count(txn, inode.tree(), inode.policy().code(), (after - blocks_before_) * block));
  blocks_before_ = after;
  return success();
}

result<Planned> plan(const Transaction& txn, const pb::Inode& inode,
                     const pb::InodeUpdate& update) {
  TRY(auto held, Held::of(txn, inode));
  const uint64_t before = held.blocks();
  if (update.has_truncate_to()) {
    const uint64_t block = inode.policy().block_bytes();
    held.take_out(update.truncate_to() / block + (update.truncate_to() % block != 0), UINT64_MAX);
  }
  for (const auto& range : update.unreserve()) {
    held.take_out(range.first(), range.first() + range.count());
  }
  Planned out;
  for (const auto& range : update.reserve()) {
    held.put_in(range.first(), range.first() + range.count());
    out.too_many_ranges = held.ranges().size() > kRangesMax;
  }
  out.blocks = static_cast<int64_t>(held.blocks() - before);
  return out;
}

result<bool> covers(const Transaction& txn, const pb::Inode& inode, const pb::InodeUpdate& update) {
  TRY(const auto held, Held::of(txn, inode));
  if (held.ranges().empty()) return false;
  return std::all_of(update.runs().begin(), update.runs().end(), [&](const pb::Run& run) {
    return held.overlap(run.first_block(), run_ranges::end_of(run)) == run.count();
  });
}

result<void> move(Transaction& txn, const pb::Inode& inode, uint32_t to) {
  if (inode.tree() == to) return success();
  TRY(const auto held, Held::of(txn, inode));
  const uint64_t bytes = held.blocks() * inode.policy().block_bytes();
  TRY(count(txn, to, inode.policy().code(), bytes));
  return count(txn, inode.tree(), inode.policy().code(), ~bytes + 1);
}

result<Demand> demand(const Transaction& txn) {
  const std::string first = key::reserved_sum(0, "").substr(0, 1);
  return demand_between(txn, first, key::after_prefix(first));
}

result<Demand> demand_of_tree(const Transaction& txn, uint32_t tree) {
  const std::string first = key::reserved_sum(tree, "");
  return demand_between(txn, first, key::after_prefix(first));
}

uint64_t total(const Demand& demand) {
  uint64_t bytes = 0;
  for (const auto& [code, of_code] : demand) bytes += of_code;
  return bytes;
}

result<std::vector<pb::BlockRange>> within(const Transaction& txn, InodeId ino, uint64_t first,
                                           uint64_t end) {
  std::vector<pb::BlockRange> out;
  pb::Reservation record;
  TRY(const bool found, txn.get(key::reservation(ino), record));
  if (!found) return out;
  const Held held = Held::of(record);
  for (const auto& range : held.ranges()) {
    if (range.end <= first || range.first >= end) continue;
    auto& part = out.emplace_back();
    part.set_first(std::max(range.first, first));
    part.set_count(std::min(range.end, end) - part.first());
  }
  return out;
}

bool parse_sum_key(std::string_view k, uint32_t& tree, std::string& code) {
  if (k.size() <= kSumKeyHead) return false;
  tree = key::u32_at(k, 1);
  code = std::string(k.substr(kSumKeyHead));
  return true;
}

std::string sum_value(uint64_t bytes) { return key::inode(bytes).substr(1); }

}  // namespace datacloud::reservations
