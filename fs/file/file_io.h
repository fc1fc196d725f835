// Data of files: reads over dirty, flushing, cached and stored blocks; writes into dirty blocks;
// truncation; handing dirty blocks to the pipeline and taking its answers back.
//
// Invariants: a block is looked for in dirty, then flushing, then (below a truncate that is not
// committed yet) the reader's map; answers of the pipeline are processed in unit order, so that
// the reader's map and the daemon's always agree on the newest content. Nothing dirty is dropped
// before its commit is answered; a failed unit becomes dirty again. The exception are changes that
// another mount's change has overtaken while this one had lost its session: they are dropped whole,
// so that the file reads as committed, and told once to every file that is open then.
//
// Failures: what cannot be stored stays dirty and is tried again until a program is told by fsync
// or close. If it is told that there is no space, the file then goes back to what is committed
// (give_up): what a program believes lost must not be stored later, where it would take the space
// that somebody has freed for something else. Other failures (sites away) keep the data.
//
// Records: what an fsync finds to be little goes into the daemon's records in one round trip, where
// the cloud allows that, and is written into stripes later (file_io_records.cc).
//
// Thread safety: all methods from any thread that may block.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "common/base/executor.h"
#include "common/base/log_limit.h"
#include "common/proto/file_time.h"
#include "fs/file/dirty_budget.h"
#include "fs/file/inode.h"
#include "fs/file/metadata_client.h"

namespace datacloud {

class FileIo {
 public:
  struct Dependencies {
    MetadataClient& metadata;
    BlockReader& reader;
    WritePipeline& pipeline;
    SiteSet& sites;
    MountConfig config;
    uint32_t write_sites_min = 1;
    std::function<void()> nudge_flusher;  // must not block
    // The kernel's pages and attributes of the inode are not true any more. May block a little.
    std::function<void(InodeId)> forget_pages = [](InodeId) {};
    // The same later, by another thread, and then pages_dropped(); must not block.
    std::function<void(const InodePtr&)> drop_pages = {};
    // Of the times that the cloud holds now. Any thread; must not block.
    std::function<TimeRange()> time_range = [] { return TimeRange::wide; };
    // The cloud keeps little data in the records (feature "inline"). Any thread; must not block.
    std::function<bool()> uses_records = [] { return false; };
  };
  explicit FileIo(Dependencies);
  ~FileIo();

  static constexpr uint64_t kFileBytesMax = uint64_t{1} << 44;  // 16 TiB, as ext4

  // What a read returns: views into shared buffers, zeros included, in file order. `use` is held
  // until the kernel has the reply, so that a recall never overtakes it.
  struct Pieces {
    std::vector<ByteView> views;
    std::vector<SharedBytes> owners;
    size_t size = 0;
    std::optional<UseGuard> use;
  };
  result<Pieces> read(FileHandle&, uint64_t offset, size_t size);
  // The file is being opened and will be read; the request for its lease has just been sent. Its
  // map is asked for in the same flight, unless there is nothing to read. Does not block.
  void expect_read(const InodePtr&);
  // `append`: at the end of the file, wherever that is now. `write_back`: a whole page that the
  // kernel had kept for a mapping; dropped while the kernel is asked to drop those pages.
  struct Written {
    uint64_t offset = 0;
    UseGuard use;  // as for Pieces
  };
  // A program is told at once when there is no space; pages that the kernel has taken from one long
  // ago (mappings) are kept for the next fsync to tell.
  enum class Origin { program, pages };
  result<Written> write(const InodePtr&, uint64_t offset, ByteView data, bool append,
                        Origin = Origin::program);
  result<void> truncate(const InodePtr&, uint64_t size);

  // copy_file_range(2): whole blocks are shared (their data are neither read nor written), in
  // commits of their own, and the rest is copied. What of the source is not committed yet is
  // before, and what the target has; small ranges of such files are not worth that.
  // Fewer bytes than asked for, as copy_file_range(2) may say: at the end of the source, after many
  // that had to be copied, or when an error came later.
  // EOPNOTSUPP: nothing can be shared, and nothing has been done: the caller copies. With `share`
  // EINVAL instead, when the ranges or the files do not allow it, and EMLINK when it cannot be done
  // now or not so often. EINVAL: overlapping ranges of one file. EFBIG.
  enum class Copying { share_or_copy, share };
  struct Copied {
    uint64_t bytes = 0;
    uint64_t shared = 0;  // of these
  };
  result<Copied> copy_range(FileHandle& from, uint64_t from_offset, FileHandle& to,
                            uint64_t to_offset, uint64_t length, Copying);
  // fallocate(2), by one commit of its own: what the file has that is not committed yet is before.
  // `reserve`: room for the blocks of the range, whether they have contents or not. `punch`: its
  // bytes become zero, and whole blocks are given back with their reservation. `zero`: the same,
  // and its blocks are reserved. Without `keep_size` the file ends behind the range at least.
  // no_space; EFBIG; EPERM on files with +i or +a is the caller's.
  struct Allocation {
    enum class What { reserve, punch, zero };
    What what = What::reserve;
    uint64_t offset = 0, length = 0;  // bytes; at least one
    bool keep_size = false;
  };
  result<void> allocate(const InodePtr&, const Allocation&);

  // Until no commit of copy_range(), none of allocate() and no store_due_records() is under way;
  // afterwards pipeline and daemon may go.
  void wait_shared();

  // Takes an explicit mtime into changes that are not committed yet; false when there are none.
  bool set_mtime_if_changed(const InodePtr&, const FileTime& mtime);
  // Next offset at or after `offset` with (or without) data, for SEEK_DATA and SEEK_HOLE.
  result<uint64_t> seek(const InodePtr&, uint64_t offset, bool data);
  // Blocks that hold data, committed or not: committing does not change it.
  struct BlocksUsed {
    uint64_t blocks = 0;
    uint64_t reserved = 0;  // further ones, without data, that are reserved
    // False: the daemon could not be asked which blocks of a sparse file are mapped.
    bool exact = true;
  };
  BlocksUsed blocks_used(const InodePtr&);

  // There are changes, and by a recent check too few sites to store them.
  bool cannot_store(const InodePtr&);
  // Everything changed before the call is committed (and survives a power cut, if `durable`): in
  // stripes, or, of little data, perhaps in the daemon's records.
  enum class Into { stripes, records_if_little };
  result<void> flush(const InodePtr&, bool durable, Into = Into::stripes);
  // The same for every file with changes; the Sync request is the caller's.
  result<void> flush_all();
  // What fsync(2) does: flush(), or the error of data given up or lost since the handle was told
  // last.
  result<void> fsync(FileHandle&);
  // What close(2) does: nothing, or a flush when errors must be told, unless `nobody_asks` says
  // that there is nobody to tell. Data given up or lost is told of once more by fsync: many
  // programs look at no error of close.
  result<void> close(
      FileHandle&, const std::function<bool()>& nobody_asks = [] { return false; });
  void pages_dropped(const InodePtr&);

  // Hands dirty blocks to the pipeline. `everything`: all of them and pending attributes; else
  // one stripe's worth of complete leading blocks. Returns the number of the newest unit in flight.
  enum class Take { stripe, everything };
  uint64_t start_flush(const InodePtr&, Take, Urgency, bool durable, Into = Into::stripes);
  // Drops dirty data that can never be committed: the file is unlinked and closed, or gone.
  void discard(const InodePtr&);
  // What no program has been told is stored is dropped, of all files: the mount is shut down.
  void drop_everything();
  // What was committed and answered is gone at the daemon, and cannot be committed again: handles
  // are told as of data that are lost, if `change_id` is the newest state that is known. Must not
  // block.
  void commit_lost(const InodePtr&, uint64_t change_id);
  // Drops what is not committed, and the file is again what daemon and sites have. Handles are told
  // `error`. False: there was nothing any more, all has been committed.
  bool give_up(const InodePtr&, int error);

  // What this mount has left in the records goes into stripes: of a file that others want, as far
  // as sites are there (else it stays, which harms nobody); of all files, before the end; of those
  // that are quiet or have much of it, in the background (does not block).
  void store_records_for_others(const InodePtr&);
  void store_all_records();
  void store_due_records();
  uint64_t record_bytes() const { return record_bytes_; }
  // Whether what other mounts have left there, and died, is moved too (file_io_adopt.cc). Not by a
  // mount that is to change nothing.
  void adopt_records(bool on) { adopts_ = on; }

  std::vector<InodePtr> dirty_inodes() const;
  DirtyBudget& budget() { return budget_; }
  uint64_t failures() const { return failures_; }
  uint64_t data_losses() const { return data_losses_; }
  std::string last_failure() const;

 private:
  // file_io_allocate.cc
  result<void> zero_within_block(const InodePtr&, uint64_t begin, uint64_t end);
  result<bool> is_reserved(const InodePtr&, uint64_t first, uint64_t end);
  result<void> room_for(const InodePtr&, uint64_t offset, uint64_t bytes, bool append);
  // file_io_clone.cc
  struct Sharing;
  struct DirectCommit;
  struct SharedPart;
  using SharingPtr = std::shared_ptr<Sharing>;
  // `into` stripes: what is in the records goes there, too.
  result<SharingPtr> settle(const InodePtr& source, const InodePtr& target,
                            Into into = Into::stripes);
  result<void> share_blocks(SharedPart&);
  result<void> share_settled(const SharingPtr&, SharedPart&);
  result<void> commit_direct(const SharingPtr&, const std::shared_ptr<DirectCommit>&);
  void direct_answered(Sharing&, DirectCommit&, const result<MetadataClient::Answer>&);
  void note_direct(Inode&, const DirectCommit&, const pb::UpdateOutcome&, Sequence);
  result<uint64_t> range_length(const InodePtr& source, uint64_t from_offset,
                                const InodePtr& target, uint64_t to_offset, uint64_t length);
  std::optional<Error> copy_parts(FileHandle& from, SharedPart range, Copying, Copied& out,
                                  bool& in_doubt);
  result<uint64_t> copy_bytes(FileHandle& from, uint64_t from_offset, const InodePtr& to,
                              uint64_t to_offset, uint64_t length);
  static result<void> wait_while_sharing(Inode&, std::unique_lock<std::mutex>&);
  void hand_over_stripes(const InodePtr&);
  bool quorum_in_doubt();
  uint64_t shard_bytes_of_more(Inode&, uint64_t bytes) const;
  result<void> check_lost(FileHandle&, bool telling_once);
  result<void> told(const InodePtr&, bool durable, result<void> outcome, Into);
  result<void> hopeless();
  void stored();
  result<SharedBytes> fetch_block(const InodePtr&, uint64_t block);
  result<void> load_partial(const InodePtr&, uint64_t block, uint64_t begin, uint64_t end);
  bool needs_old_contents(const Inode&, uint64_t block, uint64_t begin, uint64_t end) const;
  DirtyBuffer& dirty_buffer(Inode&, uint64_t block);
  void remember(const InodePtr&);
  void touch(const InodePtr&);
  void note_size(Inode&, uint64_t before, uint64_t after);
  FlushUnit take_unit(Inode&, Take, Into, uint64_t* number);
  void answered(const InodePtr&, uint64_t number, result<FlushResult>);
  void settle(const InodePtr&, UnitInFlight&, uint64_t number);
  void accept(const InodePtr&, UnitInFlight&, uint64_t number);
  void restore(const InodePtr&, UnitInFlight&, uint64_t number);
  result<void> flush_once(const InodePtr&, bool durable, Into);
  void overtaken(const InodePtr&);
  bool drop_changes(Inode&);
  void note_loss(Inode&, const std::string& why);
  void drop_pages(const InodePtr&);
  bool is_overtaken_page(Inode&);
  struct Uncommitted;
  static Uncommitted uncommitted(const Inode&);
  BlocksUsed blocks_with_data(const InodePtr&);
  result<uint64_t> next_data(const FileRef&, const Uncommitted&, uint64_t from, uint64_t end);
  result<uint64_t> next_hole(const FileRef&, const Uncommitted&, uint64_t from, uint64_t end);
  result<uint64_t> count_used(const FileRef&, const Uncommitted&, uint64_t below);
  void note_failure(Inode&, const Error&);
  // file_io_records.cc
  static constexpr int kStoreRoundsMax = 16;
  bool records_wanted() const;
  void records_refused();
  std::optional<uint64_t> plan_block(Inode&, DirtyBlock&, bool in_flight,
                                     std::optional<uint64_t> cut_from);
  void plan_records(Inode&, FlushUnit&, const std::vector<uint64_t>& in_flight,
                    std::optional<uint64_t> cut_from);
  void note_records(const InodePtr&, const UnitInFlight&, const FlushResult&);
  void drop_record(Inode&, uint64_t block);
  void forget_records(Inode&);
  result<uint64_t> load_records(const InodePtr&, uint64_t bytes_max);
  static bool has_records(const InodePtr&);
  result<void> store_records(const InodePtr&);
  std::vector<InodePtr> records_due();
  // file_io_adopt.cc
  void find_leftovers();
  void adopt_leftovers();
  bool adopt(const InodePtr&);
  uint64_t stripe_bytes(Inode&) const;

  Dependencies d_;
  DirtyBudget budget_;
  const SharedBytes zeros_;
  const std::shared_ptr<ReadAheadCredit> read_ahead_credit_ = std::make_shared<ReadAheadCredit>();
  mutable std::mutex mutex_;
  std::unordered_map<InodeId, InodePtr> dirty_;
  std::string last_failure_;
  std::optional<Error> failing_;  // the newest failure, while nothing has been stored since
  MonotonicTime failing_since_{};
  LogLimit log_limit_{1, seconds(60)};
  std::atomic<uint64_t> failures_{0}, data_losses_{0};
  MonotonicTime checked_at_{};
  std::unordered_map<InodeId, InodePtr> with_records_;
  MonotonicTime records_refused_until_{};
  std::atomic<uint64_t> record_bytes_{0};
  bool storing_records_ = false;
  // Files with bytes in the records that this mount has seen and not put there: the resealer's.
  struct Leftover {
    InodePtr inode;
    MonotonicTime due{};
    int asked = 0;  // how often for the lease
  };
  std::unordered_map<InodeId, Leftover> leftovers_;
  std::atomic<bool> adopts_{true};
  int clones_under_way_ = 0;  // commits not answered yet
  std::condition_variable clones_answered_;
  Executor resealer_{1, 4};  // last: its thread uses all of the above
};

}  // namespace datacloud
