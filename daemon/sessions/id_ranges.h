// Ranges of ids granted to sessions, and inode ids.
//
// Invariant: an id is granted at most once, ever; a commit may name an id only while it lies in a
// range of the committing session. Ranges are records ('G'); revoking one erases (or splits) its
// record. What a commit named before stays valid: the records of stripes say so, not the ranges.
// Changes go into the given transaction and take effect in memory at once: a transaction that
// cannot be committed ends the daemon.
#pragma once

#include <array>
#include <map>

#include "common/base/ids.h"
#include "daemon/metadata/metadata_store.h"

namespace datacloud {

inline constexpr uint32_t kGrantCountMax = 1u << 20;
inline constexpr size_t kRangesPerSessionMax = 4096;  // of one kind; beyond, the oldest is revoked

class IdRanges {
 public:
  // Reads the counters; revokes every range left by earlier runs. Returns whether there were any.
  result<bool> open(Transaction&);

  // count: 1 to kGrantCountMax (more is clamped).
  result<IdRange> grant(Transaction&, SessionId, IdKind, uint32_t count);
  bool granted(SessionId, IdKind, uint64_t first, uint64_t count) const;
  // In a range of any session.
  bool live(IdKind, uint64_t id) const;
  // Ids from here on were never granted.
  uint64_t high_water(IdKind kind) const { return next_[index(kind)]; }
  // Takes one id out of its session's range; false when it is not in one.
  bool revoke(Transaction&, SessionId, IdKind, uint64_t id);
  // Returns whether the session had any range.
  bool revoke_all(Transaction&, SessionId);

 private:
  struct Range {
    uint64_t end = 0;
    SessionId session = 0;
  };
  using Ranges = std::map<uint64_t, Range>;

  static size_t index(IdKind kind) { return static_cast<size_t>(kind) - 1; }
  static void put(Transaction&, IdKind, uint64_t first, const Range&);
  const Ranges::value_type* find(IdKind, uint64_t id) const;
  void bound(Transaction&, SessionId, IdKind);

  std::array<Ranges, 3> ranges_;
  std::array<uint64_t, 3> next_{1, 1, 1};
};

// The daemon's own inode ids, reserved in blocks so that a creation rarely writes the counter.
class InodeIds {
 public:
  result<void> open(const Transaction&);
  // The next id; reserves a block in the transaction when needed. It is used up by take().
  InodeId peek(Transaction&);
  void take();

 private:
  uint64_t next_ = 0, reserved_ = 0;
};

}  // namespace datacloud
