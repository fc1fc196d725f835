// Granting and revoking.
#include "daemon/sessions/id_ranges.h"

#include <algorithm>

#include "common/base/check.h"
#include "daemon/metadata/counters.h"
#include "daemon/metadata/record_keys.h"

namespace datacloud {
namespace {

constexpr std::array<IdKind, 3> kKinds{IdKind::stripe, IdKind::instance, IdKind::version};
constexpr std::array<const char*, 3> kCounterNames{"next_id/stripe", "next_id/instance",
                                                   "next_id/version"};
constexpr uint64_t kInodeBlock = 65536;
constexpr const char* kInodeCounter = "next_id/inode";

uint64_t limit_of(IdKind kind) { return kind == IdKind::stripe ? kStripeIdMax : uint64_t{1} << 63; }

}  // namespace

result<bool> IdRanges::open(Transaction& txn) {
  for (size_t i = 0; i < kKinds.size(); ++i) {
    TRY(next_[i], read_counter(txn, kCounterNames[i], 1));
  }
  std::vector<std::string> old;
  const std::string prefix = key::granted(IdKind::stripe, 0).substr(0, 1);
  TRY(txn.scan(prefix, key::after_prefix(prefix), [&](std::string_view k, std::string_view) {
    old.emplace_back(k);
    return true;
  }));
  for (const auto& k : old) txn.erase(k);
  return !old.empty();
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

bool IdRanges::revoke_all(Transaction& txn, SessionId session) {
  bool any = false;
  for (const IdKind kind : kKinds) {
    std::erase_if(ranges_[index(kind)], [&](const auto& item) {
      if (item.second.session != session) return false;
      txn.erase(key::granted(kind, item.first));
      return any = true;
    });
  }
  return any;
}

result<void> InodeIds::open(const Transaction& txn) {
  TRY(next_, read_counter(txn, kInodeCounter, kRootInode + 1));
  reserved_ = next_;
  return success();
}

InodeId InodeIds::peek(Transaction& txn) {
  if (next_ >= reserved_) put_counter(txn, kInodeCounter, next_ + kInodeBlock);
  return next_;
}

void InodeIds::take() {
  if (next_ >= reserved_) reserved_ = next_ + kInodeBlock;
  ++next_;
  DC_CHECK(next_ <= reserved_, "an inode id that a restart would give again");
}

}  // namespace datacloud
