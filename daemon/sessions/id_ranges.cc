// Granting and revoking.
#include "daemon/sessions/id_ranges.h"

#include <algorithm>

#include "common/base/check.h"
#include "daemon/metadata/counters.h"
#include "daemon/metadata/record_keys.h"

namespace datacloud {
namespace {

constexpr std::array<IdKind, 4> kKinds{IdKind::stripe, IdKind::instance, IdKind::version,
                                       IdKind::inode};
constexpr const char* kInodeCounter = "next_id/inode";
constexpr std::array<const char*, 4> kCounterNames{"next_id/stripe", "next_id/instance",
                                                   "next_id/version", kInodeCounter};
constexpr uint64_t kInodeBlock = 65536;

uint64_t limit_of(IdKind kind) { return kind == IdKind::stripe ? kStripeIdMax : uint64_t{1} << 63; }

}  // namespace

result<bool> IdRanges::open(Transaction& txn, const std::function<Keeps(SessionId)>& keeps) {
  for (size_t i = 0; i < kKinds.size(); ++i) {
    TRY(next_[i], read_counter(txn, kCounterNames[i], next_[i]));
  }
  bool revoked = false;
  std::vector<std::string> old;
  const std::string prefix = key::granted(IdKind::stripe, 0).substr(0, 1);
  TRY(txn.scan(prefix, key::after_prefix(prefix), [&](std::string_view k, std::string_view value) {
    pb::GrantedRange record;
    const bool whole = record.ParseFromArray(value.data(), static_cast<int>(value.size())) &&
                       record.kind() >= 1 && record.kind() <= kKinds.size();
    const Keeps kept = whole ? keeps(record.session()) : Keeps::nothing;
    const bool inodes = whole && record.kind() == static_cast<uint32_t>(IdKind::inode);
    const uint64_t end = record.first() + record.count();
    if (kept == Keeps::all || (kept == Keeps::inodes && inodes)) {
      ranges_[record.kind() - 1][record.first()] = Range{end, record.session()};
      if (inodes) mark_used(record.first(), end);
    } else {
      old.emplace_back(k);
      revoked = revoked || !inodes;
    }
    return true;
  }));
  for (const auto& k : old) txn.erase(k);
  return revoked;
}

void IdRanges::put(Transaction& txn, IdKind kind, uint64_t first, const Range& range) {
  pb::GrantedRange record;
  record.set_kind(static_cast<uint32_t>(kind));
  record.set_first(first);
  record.set_count(range.end - first);
  record.set_session(range.session);
  txn.put(key::granted(kind, first), record);
}

result<IdRange> IdRanges::grant(Transaction& txn, SessionId session, IdKind kind, uint32_t count) {
  if (count == 0) return failure(Errc::invalid, "a grant of no ids");
  count = std::min(count, kGrantCountMax);
  uint64_t& next = next_[index(kind)];
  if (next > limit_of(kind) - count) {
    return failure(Errc::unavailable, "the cloud has used up its ids of this kind");
  }
  const IdRange granted{next, count};
  next += count;
  put_counter(txn, kCounterNames[index(kind)], next);
  Ranges& ranges = ranges_[index(kind)];
  if (!ranges.empty()) {
    auto& [first, last] = *ranges.rbegin();
    DC_CHECK(last.end <= granted.first, "an id would be granted twice");
    if (last.end == granted.first && last.session == session) {
      last.end = granted.end();
      put(txn, kind, first, last);
      return granted;
    }
  }
  put(txn, kind, granted.first, ranges[granted.first] = Range{granted.end(), session});
  bound(txn, session, kind);
  return granted;
}

// The oldest ids of a session are long committed or abandoned; should one still be wanted, its
// commit is refused as revoked and redone.
void IdRanges::bound(Transaction& txn, SessionId session, IdKind kind) {
  Ranges& ranges = ranges_[index(kind)];
  if (ranges.size() <= kRangesPerSessionMax) return;
  size_t count = 0;
  auto oldest = ranges.end();
  for (auto it = ranges.begin(); it != ranges.end(); ++it) {
    if (it->second.session != session) continue;
    if (count++ == 0) oldest = it;
  }
  if (count <= kRangesPerSessionMax) return;
  txn.erase(key::granted(kind, oldest->first));
  if (kind == IdKind::inode) unmark_used(oldest->first, oldest->second.end);
  ranges.erase(oldest);
}

const IdRanges::Ranges::value_type* IdRanges::find(IdKind kind, uint64_t id) const {
  const Ranges& ranges = ranges_[index(kind)];
  auto it = ranges.upper_bound(id);
  if (it == ranges.begin()) return nullptr;
  --it;
  return id < it->second.end ? &*it : nullptr;
}

bool IdRanges::granted(SessionId session, IdKind kind, uint64_t first, uint64_t count) const {
  uint64_t at = first;
  const uint64_t end = first + count;
  if (end < first) return false;
  while (at < end) {
    const auto* range = find(kind, at);
    if (range == nullptr || range->second.session != session) return false;
    at = range->second.end;
  }
  return count > 0;
}

bool IdRanges::live(IdKind kind, uint64_t id) const { return find(kind, id) != nullptr; }

bool IdRanges::revoke(Transaction& txn, SessionId session, IdKind kind, uint64_t id) {
  const auto* found = find(kind, id);
  if (found == nullptr || found->second.session != session) return false;
  const auto [first, range] = *found;
  Ranges& ranges = ranges_[index(kind)];
  txn.erase(key::granted(kind, first));
  ranges.erase(first);
  if (first < id) put(txn, kind, first, ranges[first] = Range{id, session});
  if (id + 1 < range.end) put(txn, kind, id + 1, ranges[id + 1] = Range{range.end, session});
  bound(txn, session, kind);
  return true;
}

bool IdRanges::revoke_all(Transaction& txn, SessionId session, bool keep_inodes) {
  bool any = false;
  for (const IdKind kind : kKinds) {
    const bool inodes = kind == IdKind::inode;
    if (inodes && keep_inodes) continue;
    std::erase_if(ranges_[index(kind)], [&](const auto& item) {
      if (item.second.session != session) return false;
      txn.erase(key::granted(kind, item.first));
      if (inodes) unmark_used(item.first, item.second.end);
      any = any || !inodes;
      return true;
    });
  }
  return any;
}

bool IdRanges::inode_unused(SessionId session, InodeId ino) const {
  if (!granted(session, IdKind::inode, ino, 1)) return false;
  auto it = used_.upper_bound(ino);
  return it == used_.begin() || std::prev(it)->second <= ino;
}

void IdRanges::inode_used(InodeId ino) { mark_used(ino, ino + 1); }

void IdRanges::mark_used(uint64_t first, uint64_t end) {
  auto it = used_.upper_bound(first);
  if (it != used_.begin() && std::prev(it)->second >= first) {
    --it;
    first = it->first;
  }
  while (it != used_.end() && it->first <= end) {
    end = std::max(end, it->second);
    it = used_.erase(it);
  }
  used_.emplace(first, end);
  if (used_.size() <= kUsedIntervalsMax) return;
  const auto lowest = used_.begin();
  const auto above = std::next(lowest);
  lowest->second = above->second;
  used_.erase(above);
}

void IdRanges::unmark_used(uint64_t first, uint64_t end) {
  auto it = used_.upper_bound(first);
  if (it != used_.begin()) --it;
  while (it != used_.end() && it->first < end) {
    const auto [from, to] = *it;
    if (to <= first) {
      ++it;
      continue;
    }
    it = used_.erase(it);
    if (from < first) used_.emplace(from, first);
    if (to > end) it = used_.emplace(end, to).first;
  }
}

void IdRanges::inodes_unused(SessionId session, IdRange told) {
  if (told.end() < told.first) return;
  for (uint64_t at = told.first; at < told.end();) {
    const auto* range = find(IdKind::inode, at);
    if (range == nullptr) {
      const auto next = ranges_[index(IdKind::inode)].upper_bound(at);
      if (next == ranges_[index(IdKind::inode)].end()) return;
      at = next->first;
      continue;
    }
    const uint64_t end = std::min(told.end(), range->second.end);
    if (range->second.session == session) unmark_used(at, end);
    at = end;
  }
}

void IdRanges::move_inodes(Transaction& txn, SessionId from, SessionId to) {
  for (auto& [first, range] : ranges_[index(IdKind::inode)]) {
    if (range.session != from) continue;
    range.session = to;
    put(txn, IdKind::inode, first, range);
  }
}

InodeId InodeIds::peek(Transaction& txn) {
  if (next_ < reserved_) return next_;
  const uint64_t first = ranges_.high_water(IdKind::inode);
  put_counter(txn, kInodeCounter, first + kInodeBlock);
  return first;
}

void InodeIds::take() {
  if (next_ >= reserved_) {
    next_ = ranges_.high_water(IdKind::inode);
    ranges_.take_inode_block(kInodeBlock);
    reserved_ = ranges_.high_water(IdKind::inode);
  }
  ++next_;
  DC_CHECK(next_ <= reserved_, "an inode id that a restart would give again");
}

}  // namespace datacloud
