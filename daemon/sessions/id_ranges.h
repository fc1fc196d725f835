// Ranges of ids granted to sessions, and inode ids.
//
// Invariant: an id is granted at most once, ever; a commit may name an id only while it lies in a
// range of the committing session. Ranges are records ('G'); revoking one erases (or splits) its
// record. What a commit named before stays valid: the records of stripes say so, not the ranges.
// Changes go into the given transaction and take effect in memory at once: a transaction that
// cannot be committed ends the daemon.
//
// Inode numbers are granted for creates that may be sent again. Which of them are used is kept in
// memory only, as intervals: after a start all count as used until their mount says which are not.
#pragma once

#include <array>
#include <functional>
#include <map>

#include "common/base/ids.h"
#include "daemon/metadata/metadata_store.h"

namespace datacloud {

inline constexpr uint32_t kGrantCountMax = 1u << 20;
inline constexpr size_t kRangesPerSessionMax = 4096;  // of one kind; beyond, the oldest is revoked
inline constexpr size_t kUsedIntervalsMax = 65536;  // beyond, unused numbers between count as used

class IdRanges {
 public:
  // What a session from before the start keeps.
  enum class Keeps { nothing, inodes, all };
  // Reads the counters and the ranges; revokes those of sessions that keep nothing of the kind.
  // Returns whether stripe, instance or version ids were among them.
  result<bool> open(Transaction&, const std::function<Keeps(SessionId)>&);

  // count: 1 to kGrantCountMax (more is clamped).
  result<IdRange> grant(Transaction&, SessionId, IdKind, uint32_t count);
  bool granted(SessionId, IdKind, uint64_t first, uint64_t count) const;
  // In a range of any session.
  bool live(IdKind, uint64_t id) const;
  // Ids from here on were never granted.
  uint64_t high_water(IdKind kind) const { return next_[index(kind)]; }
  // Takes one id out of its session's range; false when it is not in one.
  bool revoke(Transaction&, SessionId, IdKind, uint64_t id);
  // Returns whether the session had any range of stripe, instance or version ids. Inode numbers
  // are kept, or not.
  bool revoke_all(Transaction&, SessionId, bool keep_inodes = false);

  // Granted to the session, and no file has it or had it.
  bool inode_unused(SessionId, InodeId) const;
  void inode_used(InodeId);
  // What a mount says after a start: of its ranges, these numbers are not used.
  void inodes_unused(SessionId, IdRange);
  // Its mount is another session now.
  void move_inodes(Transaction&, SessionId from, SessionId to);
  // The daemon's own block of inode numbers, from high_water() on.
  void take_inode_block(uint64_t count) { next_[index(IdKind::inode)] += count; }

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
  void mark_used(uint64_t first, uint64_t end);
  void unmark_used(uint64_t first, uint64_t end);

  static constexpr size_t kKindCount = 4;
  std::array<Ranges, kKindCount> ranges_;
  std::array<uint64_t, kKindCount> next_{1, 1, 1, kRootInode + 1};
  std::map<uint64_t, uint64_t> used_;  // inode numbers of granted ranges: first -> end
};

// The daemon's own inode ids, reserved in blocks so that a creation rarely writes the counter.
class InodeIds {
 public:
  explicit InodeIds(IdRanges& ranges) : ranges_(ranges) {}
  // The next id; reserves a block in the transaction when needed. It is used up by take(), with
  // nothing granted in between.
  InodeId peek(Transaction&);
  void take();

 private:
  IdRanges& ranges_;
  uint64_t next_ = 0, reserved_ = 0;
};

}  // namespace datacloud
