// The write path below the inode table: dirty blocks in, committed stripes out.
//
// Takes units (dirty blocks of one inode, in ascending order), compresses and seals each block,
// packs the blocks of one or many units into stripes whose k data columns are full at most, erasure
// codes, puts n shards in parallel (stand-ins for sites that are away), and, once the write quorum
// holds, commits stripe records and inode updates in one transaction. Stages overlap: while one
// stripe is being put the next is sealed. See docs/design.md, "The write path".
//
// Quorum: min(k + 1, n) shards durable (empty data columns count as durable), on at least
// cloud.write_sites_min distinct sites if so many columns are stored, and, if m >= 1 and enough
// sites live, the stripe decodes after losing any one more site. Shards that fail are put once more
// at another live site under a new instance id; what remains is recorded as missing. An abandoned
// name (timed out or failed put) is reported to the daemon.
//
// Order: stripes that share an inode commit in the order of their units; a unit's size takes
// effect only up to the blocks committed, so that a crash leaves a prefix.
//
// Reservations: while what the sites have free is reserved for files (fallocate), the daemon
// refuses what lies outside of reserved ranges, unit by unit; units of files without any fail at
// once then.
//
// Failure: a unit whose stripe cannot reach quorum, or whose commit fails, is answered with the
// error; nothing of it is visible. no_space and EDQUOT: sites or the daemon have no room, which is
// known for a while (RefusalPause): units fail at once then, and nothing is sent. Commits refused
// as revoked are redone under new ids by the pipeline itself.
//
// Records: a unit of little data can go into the daemon's records instead (`to_records`): its
// blocks, or what changes them, are sealed and travel in the commit. When the daemon does not take
// them, the unit fails as revoked (is_not_taken): nothing is applied, and the caller submits whole
// blocks for a stripe.
//
// Groups: with `group` set, the columns of so many consecutive full stripes of one code and
// placement are summed up into an XOR row (group_writer.h). Units do not wait for rows.
//
// Shards are as long as the policy says: units of different sizes share no stripe.
//
// Memory: at most `stripes_in_flight_max` stripes of 4 MiB shards (sealed data and parity), or more
// of smaller ones, beyond the callers' plain blocks, and three XOR rows; submit() blocks meanwhile.
// Threads: submit() and flush() from any thread that may block; callbacks run on threads of the
// pipeline and must not block on it.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "common/audit/shard_tags.h"
#include "common/base/ids.h"
#include "common/config/config.h"
#include "common/crypto/sealed_block.h"
#include "common/proto/file_time.h"
#include "common/rpc/rpc.h"
#include "common/site/site_set.h"
#include "common/stripe/shard_size.h"
#include "fs/write/id_pool.h"

namespace datacloud {

struct DirtyBlock {
  uint64_t block = 0;
  SharedBytes plain;  // 1..block_bytes; shorter only for the last block of the file
  // Of a unit for the records: the bytes that differ from the stored block, whose newest content
  // version is `base`; none: the whole block goes.
  struct Change {
    ContentVersion base = 0;
    uint32_t offset = 0, length = 0;
  };
  std::optional<Change> change = {};
};

struct FlushUnit {
  InodeId ino = 0;
  uint32_t realm = 0;
  uint32_t generation = 0;
  std::string code;
  uint32_t block_bytes = 0;
  Compression compression = Compression::zstd;
  uint32_t group = 0;                          // stripes per XOR row; 0: no rows
  uint32_t shard_bytes = kShardPlainBytesMax;  // most plain bytes of a data column
  SiteId home_site = 0;            // where data columns go first; 0: spread over the sites
  std::vector<DirtyBlock> blocks;  // ascending; may be empty (attributes only)
  bool to_records = false;         // not into a stripe
  bool reserved = false;           // space of the file is reserved: the daemon says which blocks
  uint64_t size = 0;               // of the file once all blocks are committed
  // First effects of the transaction that carries the first block:
  std::optional<uint64_t> truncate_to;
  std::optional<FileTime> mtime;
  std::optional<int64_t> ctime_ns;
  std::optional<uint32_t> mode;
  // Of the state this unit makes, and of those it may follow (InodeUpdate).
  uint64_t change_id = 0;
  std::vector<uint64_t> follows;
};

// Where a unit's blocks went, for the reader's map, and the inode after it.
struct FlushResult {
  std::vector<pb::Run> runs;
  std::vector<std::shared_ptr<const pb::Stripe>> stripes;  // all stripes the runs name
  std::vector<pb::SealedPiece> pieces;                     // of those that are in the records
  bool inode_gone = false;                                 // unlinked meanwhile: nothing to do
  bool overtaken = false;  // others have changed the file: nothing of the unit is applied
  uint64_t blocks_mapped = 0, size = 0, blocks_reserved = 0;
  uint64_t session = 0, sequence = 0;  // of the reply to the last transaction of the unit
};

// The daemon does not take the unit's bytes into its records.
inline bool is_not_taken(const Error& error) { return error.is(Errc::revoked); }

enum class Urgency {
  batch,  // may wait (briefly) for other units to share a stripe
  now,    // someone waits: close the stripe after this unit
};

struct WriteUnit;

class WritePipeline {
 public:
  struct Dependencies {
    RpcClient& client;
    SiteSet& sites;
    const ShardNamer& namer;
    const BlockSealer& sealer;
    IdPool& ids;
    pb::Cloud cloud;
    MountConfig config;
    std::shared_ptr<const ShardTags> tags = std::make_shared<ShardTags>();
  };
  explicit WritePipeline(Dependencies);
  ~WritePipeline();  // finishes or fails what was submitted

  using Done = std::function<void(result<FlushResult>)>;
  // `durable`: the commit is answered only when it survives a power cut.
  void submit(FlushUnit unit, Urgency urgency, bool durable, Done done);
  // The failure that shards of so many bytes would meet now, when it is known that there is no room
  // for them at the sites, or none at the daemon for what describes them.
  std::optional<Error> out_of_space(uint64_t shard_bytes) const;
  // The daemon's refusal of what was not reserved, while all that the sites have free is reserved.
  std::optional<Error> unreserved_refusal() const;
  // Runs a task that submits, which may wait for places, on one of kSubmittersMax threads. Tasks
  // that wait are counted by their owner; all have run when the pipeline is gone.
  static constexpr int kSubmittersMax = 2;
  void post(std::function<void()> task);
  // The same in steps, for a caller that must not let go of a lock between taking the blocks and
  // their place in the order of the inode's units: room (may block), the place (does not), the work
  // (may).
  void wait_for_room(InodeId);
  std::shared_ptr<WriteUnit> admit(FlushUnit unit, bool durable, Done done);
  void submit(const std::shared_ptr<WriteUnit>&, Urgency urgency);
  // Closes the stripe being filled, so that every unit submitted so far gets written.
  void flush();

  struct Stats {
    uint64_t stripes = 0, blocks = 0, plain_bytes = 0, sealed_bytes = 0, shard_bytes = 0;
    uint64_t stand_ins = 0, shards_missing = 0, failures = 0;
    uint64_t record_blocks = 0, record_bytes = 0;  // into the daemon's records; bytes sealed
    uint64_t rows = 0;  // XOR rows committed; stripes and shard bytes count them, too
  };
  Stats stats() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace datacloud
