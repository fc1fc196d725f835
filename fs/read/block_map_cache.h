// What this mount knows of the block maps of files: which blocks are mapped where, and which are
// known to be holes. Pure bookkeeping, no I/O.
//
// A block whose bytes, or changes of them, lie in the daemon's records comes with these, still
// sealed.
//
// Invariants: runs of an inode do not overlap and lie inside what is covered; a block covered
// without a run is a hole. A reply of the daemon only fills what is not covered, so that the
// mount's own newer commits and truncates win; a reply to a request made before an invalidation is
// dropped. Each stripe record is held once, however many runs name it.
//
// Bounded: before more is kept, the least recently used inodes leave until at most `bytes_max` (an
// estimate) is held. What a truncate
// of this mount made a hole is remembered until invalidate(), because the daemon may not know yet.
// Thread safety: all methods from any thread.
#pragma once

#include <atomic>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "common/base/error.h"
#include "common/base/ids.h"
#include "common/proto/rpc.pb.h"
#include "fs/base/interval_set.h"

namespace datacloud {

struct MappedStripe {
  std::shared_ptr<const pb::Stripe> record;
  // The daemon has confirmed the record after a shard was not found: the shard is lost, there is
  // no need to ask again.
  std::atomic<bool> missing_confirmed{false};
};

// What a block was sealed for when it is mapped elsewhere now, as clones are; ino 0: for its place.
struct SealedPlace {
  uint32_t realm = 0;
  InodeId ino = 0;
  uint64_t block = 0;
};

// What the records hold of a block, sealed: its bytes (none: they are in a stripe) and patches, in
// their order.
struct RecordBytes {
  struct Patch {
    ContentVersion version = 0;
    std::string sealed;
  };
  std::string block;
  std::vector<Patch> patches;
  uint64_t bytes() const;
};

// Stands for the stripe of a block whose bytes are all in the records; no stripe has this id.
inline constexpr StripeId kNoStripeId = ~StripeId{0};

struct MappedBlock {
  std::shared_ptr<MappedStripe> stripe;  // null: a hole
  uint32_t slot = 0;
  ContentVersion version = 0;  // of what is sealed as a whole
  SealedPlace sealed = {};
  std::shared_ptr<const RecordBytes> records;  // null: none

  bool lost() const { return stripe && stripe->record->id() == 0; }  // mapped, its data lost
  bool in_records() const { return stripe && stripe->record->id() == kNoStripeId; }
  // The content version of its bytes as they are now.
  ContentVersion newest() const {
    return records && !records->patches.empty() ? records->patches.back().version : version;
  }
};

class BlockMapCache {
 public:
  explicit BlockMapCache(uint64_t bytes_max) : bytes_max_(bytes_max) {}

  // What is known of blocks first.. up to the first unknown one, at most `count`.
  std::vector<MappedBlock> lookup(InodeId, uint64_t first, uint64_t count);
  // End of the known stretch starting at `first` (`first` when it is unknown).
  uint64_t known_end(InodeId, uint64_t first);
  // The first block of the known stretch [first, known_end) that is mapped (or is not), below
  // `end`; `found` equals known_end when there is none.
  struct Found {
    uint64_t found, known_end;
  };
  Found find(InodeId, uint64_t first, uint64_t end, bool mapped);

  // Around a MapRequest: begin() before it is sent, end() with its answer (null: none came). end()
  // gives false when the reply was dropped because the map was invalidated meanwhile; corrupt
  // when the reply contradicts itself.
  using Ticket = uint64_t;
  Ticket begin(InodeId);
  result<bool> end(InodeId, Ticket, const pb::MapRequest&, pb::MapReply*);

  // Files of whose blocks answers of the daemon have brought bytes in the records, since the last
  // call. At most kFoundMax; what is not told is told when it is asked for again.
  static constexpr size_t kFoundMax = 4096;
  std::vector<InodeId> take_found();
  // The blocks known here that have bytes in the records, in order, at most `count_max`.
  struct InRecords {
    uint64_t block = 0;
    uint32_t patches = 0;
    uint64_t bytes = 0;
  };
  std::vector<InRecords> in_records(InodeId, size_t count_max);

  // `pieces`: of the runs that have bytes in the records.
  void committed(InodeId, const std::vector<pb::Run>&,
                 const std::vector<std::shared_ptr<const pb::Stripe>>&,
                 const std::vector<pb::SealedPiece>& pieces = {});
  void truncated(InodeId, uint64_t first_block);
  void invalidate(InodeId);
  // Forgets blocks first..end-1; requests under way are dropped.
  void forget(InodeId, uint64_t first, uint64_t end);

  uint64_t bytes() const;

 private:
  struct Piece {
    uint64_t count;
    uint32_t slot;
    ContentVersion version;
    std::shared_ptr<MappedStripe> stripe;
    SealedPlace sealed;
    std::shared_ptr<const RecordBytes> records = {};  // then of one block

    Piece part(uint64_t skip, uint64_t blocks) const;
  };
  struct File {
    std::map<uint64_t, Piece> pieces;  // by first block
    IntervalSet covered;
    uint64_t hole_from = UINT64_MAX;  // covered from here on by a truncate of this mount
    Ticket epoch = 0;
    int requests = 0;
    std::list<InodeId>::iterator age;
  };
  using Stripes = std::unordered_map<StripeId, std::shared_ptr<MappedStripe>>;

  File& file(InodeId);
  File* known(InodeId);
  void clear_range(File&, uint64_t first, uint64_t end);
  void place(File&, uint64_t first, const Piece&);
  using Records = std::map<uint64_t, std::shared_ptr<RecordBytes>>;  // by block
  void fill(File&, const pb::Run&, const std::shared_ptr<MappedStripe>&, const Records&,
            uint64_t first, uint64_t end);
  static uint64_t weight(const Piece&);
  const Piece* piece_at(const File&, uint64_t block) const;
  std::shared_ptr<RecordBytes> patched(const File&, const pb::Run&,
                                       const std::vector<pb::SealedPiece>&) const;
  void forget_block(File&, uint64_t first, uint64_t end);
  void make_room(InodeId);
  bool evict(InodeId);
  std::shared_ptr<MappedStripe> intern(std::shared_ptr<const pb::Stripe>);

  const uint64_t bytes_max_;
  mutable std::mutex mutex_;
  std::unordered_map<InodeId, File> files_;
  std::list<InodeId> ages_;  // most recently used first
  std::unordered_map<StripeId, std::weak_ptr<MappedStripe>> stripes_;
  size_t stripes_purge_at_ = 1024;
  Ticket epochs_ = 0;
  uint64_t bytes_ = 0;
  std::unordered_set<InodeId> found_;  // files with bytes in the records
  std::atomic<bool> any_found_{false};
};

}  // namespace datacloud
