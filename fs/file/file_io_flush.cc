// Handing changes to the pipeline, taking its answers back in order, and waiting for them.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <mutex>

#include "common/base/inode_flags.h"
#include "common/base/log.h"
#include "common/base/out_of_space.h"
#include "fs/base/interruption.h"
#include "fs/file/change_ids.h"
#include "fs/file/file_io.h"

namespace datacloud {
namespace {

constexpr auto kRetryFirst = milliseconds(500);
constexpr auto kRetryMax = seconds(10);
constexpr auto kHealthAge = milliseconds(500);
// Small writes are often followed by others into the same blocks, which then need no read; what
// streams through would only push out better things.
constexpr uint64_t kKeptBytesMax = 1u << 20;
// A connection that broke is made anew within this, if there is a daemon.
constexpr auto kReconnectPatience = seconds(1);
// Sessions that may be lost during one flush.
constexpr int kFlushAttemptsMax = 8;

}  // namespace

// Moves changes of the inode into a new unit. The caller holds flush_mutex and mutex.
FlushUnit FileIo::take_unit(Inode& inode, Take take, Into into, uint64_t* number) {
  const uint64_t bs = inode.block_bytes();
  FlushUnit unit;
  unit.ino = inode.ino;
  unit.realm = inode.attr.realm();
  unit.generation = inode.attr.generation();
  unit.code = inode.attr.policy().code();
  unit.block_bytes = inode.block_bytes();
  unit.compression = static_cast<Compression>(inode.attr.policy().compression());
  unit.group = inode.attr.policy().group();
  unit.home_site = inode.attr.policy().home_site();
  unit.shard_bytes = shard_bytes_of(inode.attr.policy().shard_bytes());

  unit.reserved = inode.attr.flags() & kInodeReserved;
  unit.change_id = next_change_id(inode);
  unit.follows = states_to_follow(inode);

  *number = inode.next_unit++;
  UnitInFlight flight;
  flight.change_id = unit.change_id;
  flight.carries = inode.pending;
  uint64_t limit = UINT64_MAX, tail = UINT64_MAX;
  if (take == Take::stripe) {
    // Of small stripes as many as are full, up to one of the largest: a write may fill several.
    const uint64_t stripe = stripe_bytes(inode);
    const uint64_t most = kShardPlainBytesMax / shard_bytes_of(inode.attr.policy().shard_bytes());
    limit = stripe * std::clamp<uint64_t>(inode.dirty_bytes / stripe, 1, most);
    tail = inode.attr.size() / bs;  // still growing: left for later
  }
  const auto cut_from = inode.mapped_limit();
  std::vector<uint64_t> in_flight;  // blocks that are in earlier units too
  uint64_t covered = 0;
  for (auto it = inode.dirty.begin(); it != inode.dirty.end();) {
    if (it->first >= tail || flight.bytes + it->second->size() > limit) break;
    const uint64_t block = it->first;
    SharedBytes plain = std::move(it->second);
    it = inode.dirty.erase(it);
    inode.dirty_bytes -= std::min<uint64_t>(inode.dirty_bytes, plain->size());
    const bool resealed = inode.resealed.erase(block) > 0;
    if (plain->empty()) continue;  // part of a hole after all
    if (resealed) flight.resealed.push_back(block);
    if (inode.flushing.contains(block)) in_flight.push_back(block);
    flight.bytes += plain->size();
    flight.blocks.push_back(block);
    inode.flushing[block] = FlushingBuffer{plain, *number};
    unit.blocks.push_back({block, std::move(plain)});
    covered = (block + 1) * bs;
  }
  const bool complete = inode.dirty.empty();
  unit.size = complete ? inode.attr.size() : std::min<uint64_t>(inode.attr.size(), covered);
  unit.truncate_to = inode.pending.truncate_to;
  if (inode.pending.times) {
    unit.mtime = kept_time(mtime_of(inode.attr), d_.time_range());
    unit.ctime_ns = to_ns(ctime_of(inode.attr));
  }
  flight.no_news = !inode.pending.any() && flight.resealed.size() == flight.blocks.size();
  if (into == Into::records_if_little && complete && flight.resealed.empty() && records_wanted())
    plan_records(inode, unit, in_flight, cut_from);
  flight.to_records = unit.to_records;
  inode.records_flights += unit.to_records ? 1 : 0;
  inode.pending = {};
  if (!complete) {
    flight.carries.size = false;
    inode.pending.size = inode.attr.size() > unit.size;
    inode.pending.times = flight.carries.times;
  }
  inode.units.emplace(*number, std::move(flight));
  return unit;
}

uint64_t FileIo::start_flush(const InodePtr& inode, Take take, Urgency urgency, bool durable,
                             Into into) {
  std::lock_guard flush_lock(inode->flush_mutex);
  std::shared_ptr<WriteUnit> unit;
  uint64_t number = 0;
  d_.pipeline.wait_for_room(inode->ino);
  {
    std::unique_lock lock(inode->mutex);
    const uint64_t newest = inode->units.empty() ? 0 : inode->units.rbegin()->first;
    if (!inode->has_changes()) return newest;
    if (!d_.metadata.holds(*inode, pb::LEASE_WRITE)) {
      lock.unlock();
      // Lost with a session, or not asked for since: the commit would be refused without it.
      if (auto held = d_.metadata.ensure_lease(inode, pb::LEASE_WRITE, false); !held) {
        const bool gone = held.error().code() == std::errc::no_such_file_or_directory;
        if (gone) {
          discard(inode);
          return newest;
        }
        lock.lock();
        note_failure(*inode, held.error());
        return newest;
      }
      lock.lock();
      if (!inode->has_changes()) return newest;  // overtaken
    }
    if (take == Take::stripe && inode->dirty_bytes < stripe_bytes(*inode)) return newest;
    FlushUnit taken = take_unit(*inode, take, into, &number);
    // Before an earlier unit can be told to have failed: then this one fails with it.
    unit = d_.pipeline.admit(std::move(taken), durable,
                             [this, inode, number](result<FlushResult> answer) {
                               answered(inode, number, std::move(answer));
                             });
  }
  d_.pipeline.submit(unit, urgency);
  return number;
}

// Answers may come out of order; they take effect in unit order.
void FileIo::answered(const InodePtr& inode, uint64_t number, result<FlushResult> answer) {
  bool clean = false, gone = false;
  {
    std::lock_guard lock(inode->mutex);
    const auto mine = inode->units.find(number);
    if (mine == inode->units.end()) return;
    mine->second.answer.emplace(std::move(answer));
    while (!inode->units.empty() && inode->units.begin()->second.answer) {
      UnitInFlight unit = std::move(inode->units.begin()->second);
      const uint64_t first = inode->units.begin()->first;
      gone = gone || (unit.answer->has_value() && unit.answer->value().inode_gone);
      settle(inode, unit, first);
      inode->units.erase(first);
    }
    clean = inode->clean();
    if (clean) {
      inode->failures_in_a_row = 0;
      std::lock_guard own_lock(mutex_);
      dirty_.erase(inode->ino);
    }
    inode->changed.notify_all();
  }
  if (gone) discard(inode);
  if (clean) d_.metadata.table().release_if_unused(inode);
}

void FileIo::settle(const InodePtr& inode, UnitInFlight& unit, uint64_t number) {
  if (unit.answer->has_value()) stored();
  inode->records_flights -= unit.to_records ? 1 : 0;
  if (unit.dropped) {
    budget_.remove(unit.bytes);
  } else if (!unit.answer->has_value()) {
    note_failure(*inode, unit.answer->error());
    restore(inode, unit, number);
  } else if (unit.answer->value().overtaken) {
    // The lease went without a word: what is here now is of no use either.
    inode->lease = pb::LEASE_NONE;
    inode->attr_stale = true;
    overtaken(inode);
    budget_.remove(unit.bytes);
  } else {
    accept(inode, unit, number);
  }
}

// A committed unit: the reader's map learns it before its buffers go.
void FileIo::accept(const InodePtr& accepted, UnitInFlight& unit, uint64_t number) {
  Inode& inode = *accepted;
  const FlushResult& done = unit.answer->value();
  const uint64_t bs = inode.block_bytes();
  if (unit.carries.truncate_to)
    d_.reader.truncated(inode.ino, (*unit.carries.truncate_to + bs - 1) / bs);
  BlockReader::PlainBlocks kept;
  for (const uint64_t block : unit.blocks) {
    const auto it = inode.flushing.find(block);
    if (it == inode.flushing.end() || it->second.unit != number) continue;
    if (unit.bytes <= kKeptBytesMax) kept.emplace(block, it->second.plain);
  }
  // A unit that has failed may have changed the map before, which no answer has told.
  if (!inode.unsure.empty()) d_.reader.invalidate(inode.ino);
  if (!done.runs.empty())
    d_.reader.committed(inode.ino, done.runs, done.stripes, kept, done.pieces);
  if (!done.inode_gone) note_records(accepted, unit, done);
  for (const uint64_t block : unit.blocks) {
    const auto it = inode.flushing.find(block);
    if (it != inode.flushing.end() && it->second.unit == number) inode.flushing.erase(it);
  }
  budget_.remove(unit.bytes);
  if (done.session == inode.attr_session && done.sequence >= inode.attr_sequence) {
    inode.stored = {done.size, done.blocks_mapped, unit.change_id, done.blocks_reserved};
    inode.attr.set_blocks_mapped(done.blocks_mapped);
    inode.attr.set_blocks_reserved(done.blocks_reserved);
    inode.attr.set_change_id(unit.change_id);
    inode.attr_sequence = done.sequence;
  }
  // Otherwise what the daemon has said since is of this state or of a later one.
  if (inode.stored.change_id == unit.change_id)
    inode.unsure.clear();
  else
    inode.unsure.push_back(unit.change_id);
}

// A failed unit: what nothing newer replaces is dirty again, attribute changes are pending again.
void FileIo::restore(const InodePtr& inode, UnitInFlight& unit, uint64_t number) {
  uint64_t kept = 0;
  remember(inode);
  note_unsure(*inode, unit.change_id);
  for (const uint64_t block : unit.blocks) {
    const auto it = inode->flushing.find(block);
    if (it == inode->flushing.end() || it->second.unit != number) continue;
    SharedBytes plain = std::move(it->second.plain);
    inode->flushing.erase(it);
    if (inode->dirty.count(block)) continue;
    // It is where it was.
    if (std::binary_search(unit.resealed.begin(), unit.resealed.end(), block)) continue;
    kept += plain->size();
    inode->dirty_bytes += plain->size();
    inode->dirty.emplace(block, std::make_shared<Bytes>(*plain));
  }
  budget_.remove(unit.bytes - std::min(kept, unit.bytes));
  PendingChange& pending = inode->pending;
  if (unit.carries.truncate_to)
    pending.truncate_to =
        std::min(*unit.carries.truncate_to, pending.truncate_to.value_or(UINT64_MAX));
  pending.times = pending.times || unit.carries.times;
  pending.size = pending.size || !unit.no_news;
}

void FileIo::note_failure(Inode& inode, const Error& error) {
  ++inode.error_number;
  inode.error = error;
  if (session_is_over(error)) {  // written again at once, under a new lease
    inode.lease = pb::LEASE_NONE;
    return;
  }
  if (is_not_taken(error)) return records_refused();  // written again at once, into stripes
  const auto delay =
      std::min<Duration>(kRetryMax, kRetryFirst * (1u << std::min(inode.failures_in_a_row, 6u)));
  const auto now = monotonic_now();
  ++inode.failures_in_a_row;
  inode.retry_at = now + delay;
  ++failures_;
  std::lock_guard lock(mutex_);
  if (!failing_) failing_since_ = now;
  failing_ = error;
  last_failure_ = error.message();
  // Once for all files that fail for one reason: the line tells the reason.
  const std::string line =
      fmt::format("inode {} could not be written: {}", inode.ino, last_failure_);
  if (const auto verdict = log_limit_.judge(line, now); verdict.pass) spdlog::error("{}", line);
}

void FileIo::stored() {
  std::lock_guard lock(mutex_);
  failing_.reset();
}

// With the session the leases and ids of a write that is under way are lost, not its data: the
// caller need not know.
result<void> FileIo::flush(const InodePtr& inode, bool durable, Into into) {
  for (int attempt = 1;; ++attempt) {
    auto done = flush_once(inode, durable, into);
    if (done) return done;
    const bool again = session_is_over(done.error()) || is_not_taken(done.error());
    if (!again || attempt == kFlushAttemptsMax) return done;
  }
}

result<void> FileIo::flush_once(const InodePtr& inode, bool durable, Into into) {
  uint64_t errors = 0, before = 0;
  bool lease_missing = false;
  {
    std::unique_lock lock(inode->mutex);
    // Those who sync one file at a time share what they send, and patches have a base.
    if (into == Into::records_if_little) {
      TRY(wait_interruptibly(inode->changed, lock, [&] { return inode->records_flights == 0; }));
    }
    errors = inode->error_number;
    before = inode->next_unit;
    lease_missing = inode->has_changes() && !d_.metadata.holds(*inode, pb::LEASE_WRITE);
  }
  // Waited for here, where it can be interrupted.
  if (lease_missing) {
    if (auto held = d_.metadata.ensure_lease(inode, pb::LEASE_WRITE, false); !held) {
      if (held.error().code() == std::errc::no_such_file_or_directory) {
        discard(inode);  // the handles are told
        return success();
      }
      std::lock_guard lock(inode->mutex);
      if (held.error().errno_value() != EINTR) note_failure(*inode, held.error());
      return held;
    }
  }
  // Handing over may wait for places, which nothing interrupts: not on this thread.
  struct Handed {
    bool done = false;
    uint64_t last = 0;
  };
  const auto handed = std::make_shared<Handed>();
  d_.pipeline.post([this, inode, durable, into, before, weak = std::weak_ptr(handed)] {
    if (weak.expired()) return;  // interrupted meanwhile
    const uint64_t last = start_flush(inode, Take::everything, Urgency::now, durable, into);
    if (last < before) d_.pipeline.flush();  // older units only: close the stripe they wait in
    const auto handed = weak.lock();
    if (!handed) return;
    std::lock_guard lock(inode->mutex);
    *handed = {true, last};
    inode->changed.notify_all();
  });
  uint64_t last = 0;
  {
    std::unique_lock lock(inode->mutex);
    TRY(wait_interruptibly(inode->changed, lock, [&] {
      return handed->done && (inode->error_number != errors || inode->units.empty() ||
                              inode->units.begin()->first > handed->last);
    }));
    last = handed->last;
    if (inode->error_number != errors) return failure(inode->error);
  }
  if (!durable || last >= before) return success();
  pb::Request request;
  request.mutable_sync();
  return d_.metadata.run(std::move(request));
}

result<void> FileIo::flush_all() {
  const auto inodes = dirty_inodes();
  // All are handed over first, so that they share stripes; then each is waited for.
  d_.pipeline.post([this, inodes] {
    for (const auto& inode : inodes) start_flush(inode, Take::everything, Urgency::batch, false);
    d_.pipeline.flush();
  });
  std::optional<Error> failed;
  for (const auto& inode : inodes) {
    {
      std::lock_guard lock(inode->mutex);
      if (inode->attr_known && inode->attr.nlink() == 0) continue;
    }
    if (auto done = flush(inode, false); !done) {
      if (done.error().errno_value() == EINTR) return done;
      failed = done.error();
    }
  }
  if (failed) return failure(*failed);
  return success();
}

// Fewer sites than a write needs, by a check not older than kHealthAge.
bool FileIo::quorum_in_doubt() {
  {
    std::lock_guard lock(mutex_);
    if (monotonic_now() - checked_at_ < kHealthAge) {
      return d_.sites.live_count() < d_.write_sites_min;
    }
    checked_at_ = monotonic_now();
  }
  d_.sites.check_all(kHealthAge);
  return d_.sites.live_count() < d_.write_sites_min;
}

bool FileIo::cannot_store(const InodePtr& inode) {
  {
    std::lock_guard lock(inode->mutex);
    if (inode->clean()) return false;
  }
  return quorum_in_doubt();
}

result<void> FileIo::close(FileHandle& handle, const std::function<bool()>& nobody_asks) {
  const InodePtr& inode = handle.inode;
  bool clean = false, failing = false, held = false;
  uint64_t shard_bytes = 0;
  {
    std::lock_guard lock(inode->mutex);
    clean = inode->clean();
    failing = inode->failures_in_a_row > 0;
    held = d_.metadata.holds(*inode, pb::LEASE_WRITE);
    if (!clean) {
      inode->closed_at = monotonic_now();
      shard_bytes = shard_bytes_of_more(*inode, 0);
    }
  }
  // Without the lease it is not known whether the data can still be written. Where that can be
  // found out the caller is told; while the daemon is away they are kept, and close does not wait
  // for it.
  if (!clean && !held) {
    const auto patience = monotonic_now() + kReconnectPatience;
    while (!d_.metadata.connected() && monotonic_now() < patience && !nobody_asks()) {
      TRY(sleep_interruptibly(milliseconds(10)));
    }
    failing = failing || d_.metadata.connected();
  }
  const auto in_doubt = [&] {
    return d_.config.sync_close || failing || quorum_in_doubt() ||
           d_.pipeline.out_of_space(shard_bytes) || d_.pipeline.unreserved_refusal();
  };
  if (!clean && in_doubt()) {
    if (nobody_asks()) return success();
    const Into into = d_.config.sync_close ? Into::records_if_little : Into::stripes;
    TRY(told(inode, false, flush(inode, false, into), into));
  }
  return check_lost(handle, false);
}

std::vector<InodePtr> FileIo::dirty_inodes() const {
  std::lock_guard lock(mutex_);
  std::vector<InodePtr> out;
  out.reserve(dirty_.size());
  for (const auto& [ino, inode] : dirty_) out.push_back(inode);
  return out;
}

std::string FileIo::last_failure() const {
  std::lock_guard lock(mutex_);
  return last_failure_;
}

}  // namespace datacloud
