// One inode as this mount knows it: attributes, lease, and data not yet committed.
//
// Truth: under a WRITE lease size, times and dirty blocks here are the truth; under READ the
// attributes are a valid copy; under NONE nothing may be used without asking the daemon.
//
// Uncommitted changes are changes of one stored state of the file, known by its change id. A
// session may end while they wait: they are kept when the daemon still has that state, or one that
// a commit of ours has made of it, and dropped when another mount has made a different one
// (`knows`).
//
// Locks, in this order: flush_mutex (held from taking a snapshot of dirty blocks to handing it to
// the pipeline, so that units of one inode are submitted in order), then mutex (every field).
// Neither is held during a call to the daemon, a site or the kernel, except flush_mutex during
// WritePipeline::submit.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/proto/rpc.pb.h"
#include "fs/file/file_locks.h"
#include "fs/file/known_listing.h"
#include "fs/read/block_reader.h"
#include "fs/write/write_pipeline.h"

namespace datacloud {

// A block being changed; bytes beyond its end are zero.
using DirtyBuffer = std::shared_ptr<Bytes>;

// A block handed to the pipeline: immutable until its unit is answered.
struct FlushingBuffer {
  SharedBytes plain;
  uint64_t unit = 0;
};

// Attribute changes that a commit still has to carry.
struct PendingChange {
  std::optional<uint64_t> truncate_to;
  bool size = false;   // size differs from the committed one without any block saying so
  bool times = false;  // mtime and ctime set by writes here
  bool any() const { return truncate_to || size || times; }
};

// The file at the daemon, all of one moment.
struct StoredState {
  uint64_t size = 0;
  uint64_t blocks_mapped = 0;
  uint64_t change_id = 0;
  uint64_t blocks_reserved = 0;  // of those that have no contents
};

// A unit handed to the pipeline, until it and every earlier unit of the inode are answered.
struct UnitInFlight {
  PendingChange carries;
  uint64_t change_id = 0;
  bool dropped = false;  // overtaken by another mount's change: its answer changes nothing here
  std::vector<uint64_t> blocks;
  uint64_t bytes = 0;
  bool to_records = false;
  bool no_news = false;            // only blocks that are stored already, and move
  std::vector<uint64_t> resealed;  // of its blocks: these
  std::optional<result<FlushResult>> answer;
};

// A block of which bytes are in the daemon's records.
struct BlockInRecords {
  uint32_t patches = 0;
  uint32_t bytes = 0;
};

struct Inode {
  explicit Inode(InodeId id) : ino(id) {}

  const InodeId ino;
  std::mutex flush_mutex;
  std::mutex mutex;
  std::condition_variable_any changed;  // units answered, lease or readers changed

  pb::Inode attr;              // merged: what stat shows
  uint64_t attr_sequence = 0;  // daemon's sequence of the newest reply merged
  uint64_t attr_session = 0;   // the session of that reply: sequences of others do not compare
  bool attr_known = false;     // attr has been filled once
  uint64_t entry_changes = 0;  // of a directory: counts changes of its entries seen here
  bool attr_stale = false;     // changed elsewhere: ask again before showing it
  int64_t access_told_ns = 0;  // when the daemon was last told that it is read
  bool removed_here =
      false;  // its last name was taken by this mount: the kernel forgets it by itself
  pb::LeaseMode lease = pb::LEASE_NONE;
  uint64_t lease_session = 0;    // the session that holds `lease`
  bool open_registered = false;  // the daemon knows that we have it open

  // Of a directory: its names, as far as they are known; and whether programs walk through it,
  // which makes it worth asking for more than one name at a time.
  std::unique_ptr<KnownListing> listing;
  uint64_t listing_order = 0;  // the oldest listing goes first
  uint32_t misses = 0;         // names that had to be asked for one by one
  uint32_t walked = 0;         // directories in it that were begun to be looked through
  bool fetching = false;       // somebody asks for more of its names
  bool too_large = false;      // to know all its names
  // Listings asked for by requests with lower tickets may be older than the last change of a name.
  uint64_t names_changed = 0;

  uint32_t listed = 0;   // 1 for each known listing that has it
  uint64_t lookups = 0;  // the kernel's references
  // The kernel was last given a reference with attributes that it may keep. It makes its inode only
  // when the program that asked goes on.
  MonotonicTime named_at{};
  uint32_t opens = 0;   // open handles
  uint32_t users = 0;   // data operations in progress that rely on the lease
  uint32_t askers = 0;  // operations that wait for the daemon to give it
  uint64_t served_while_recalled = 0;
  bool recalling = false;
  uint64_t recalls = 0;  // counts them: one that was put off ends with the next

  std::map<uint64_t, DirtyBuffer> dirty;
  std::map<uint64_t, FlushingBuffer> flushing;
  PendingChange pending;
  std::map<uint64_t, UnitInFlight> units;  // in flight, by number
  StoredState stored;
  // A range of blocks that was reserved when last asked for (a hint: the daemon decides).
  uint64_t reserved_first = 0, reserved_end = 0;
  std::vector<uint64_t> unsure;  // change ids of failed units: they may have been committed
  uint64_t next_unit = 1;
  uint64_t dirty_bytes = 0;
  // What this mount has put into the records (file_io_records.cc), and the dirty blocks that are
  // only on their way from there into a stripe.
  std::map<uint64_t, BlockInRecords> in_records;
  std::set<uint64_t> resealed;
  uint64_t record_bytes = 0;     // sum of in_records
  MonotonicTime records_at{};    // when that changed last
  uint32_t records_flights = 0;  // units in flight that go there
  bool sharing = false;          // its blocks are being replaced by shared ones: changes wait
  uint64_t shares = 0;           // counts how often that was begun: what was read before may be old
  bool handing_over = false;     // a task of the pipeline is handing full stripes over
  uint32_t data_columns = 0;     // k of its code, once looked up
  MonotonicTime dirty_since{};
  MonotonicTime closed_at{};  // last close with dirty data
  MonotonicTime retry_at{};   // not before: the last flush failed
  uint32_t failures_in_a_row = 0;
  uint64_t error_number = 0;  // counts flush failures
  Error error;                // the newest
  // Counts how often unwritten data was dropped, the last time with this error: every open handle
  // is told of it once, by fsync.
  uint64_t losses = 0;
  int loss_errno = 0;
  uint32_t stale_pages = 0;  // the kernel is being asked to drop pages of an overtaken state
  bool pages_told = false;   // what is lost with them is counted already

  uint32_t block_bytes() const { return attr.policy().block_bytes(); }
  bool has_changes() const { return !dirty.empty() || pending.any(); }
  bool clean() const { return !has_changes() && units.empty(); }
  // Another mount has taken its last name and nothing here has it open: nobody can reach it any
  // more, though the kernel may remember it for long.
  bool gone() const {
    return attr_known && attr.nlink() == 0 && !removed_here && opens == 0 && users == 0 && clean();
  }
  // Whether the state of this change id is the one that uncommitted changes are based on, or was
  // made of it by a commit from here.
  bool knows(uint64_t change_id) const {
    return change_id == stored.change_id ||
           std::find(unsure.begin(), unsure.end(), change_id) != unsure.end() ||
           std::any_of(units.begin(), units.end(),
                       [&](const auto& unit) { return unit.second.change_id == change_id; });
  }
  // Blocks at and above this are not to be looked up: a truncate is not committed yet.
  std::optional<uint64_t> mapped_limit() const {
    std::optional<uint64_t> bytes = pending.truncate_to;
    for (const auto& [number, unit] : units)
      if (unit.carries.truncate_to && (!bytes || *unit.carries.truncate_to < *bytes))
        bytes = unit.carries.truncate_to;
    if (!bytes) return std::nullopt;
    return (*bytes + block_bytes() - 1) / block_bytes();
  }
  FileRef file_ref() const { return {ino, attr.realm(), block_bytes(), attr.size()}; }
};

using InodePtr = std::shared_ptr<Inode>;

// An open file, kept by the kernel as its handle.
struct FileHandle {
  InodePtr inode;
  std::mutex mutex;
  std::unique_ptr<ReadAhead> ahead;     // since the first read
  uint64_t losses_seen = 0;             // of its inode
  bool synchronous = false;             // opened with O_SYNC or O_DSYNC
  std::atomic<bool> share_only{false};  // copy_file_range into it shares blocks or fails
  HandleLocks locks;
};

}  // namespace datacloud
