// Little data of an fsync into the daemon's records, and from there into stripes later (feature
// "inline"; docs/protocol.md, "Bytes in the records").
//
// A block goes there whole when it is small, or as a patch: the bytes that differ from the stored
// block, which is known for certain only while the map here follows every commit (no unit of
// unknown outcome, no unit in flight that has the block). What is not known is sent whole.
//
// Which blocks this mount has put there is remembered (Inode::in_records) as long as it holds the
// WRITE lease: it has to write them into stripes, by making them dirty with the contents they have.
// Such a block is `resealed`: a unit of nothing else has no news, so that its failure loses nothing
// and is told to nobody.
#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/crypto/block_patches.h"
#include "fs/file/file_io.h"

namespace datacloud {
namespace {

constexpr size_t kRecordBlocksMax = 64;                         // of one unit
constexpr uint64_t kResealBytesMax = 8u << 20;                  // made dirty at once
constexpr uint32_t kPatchesDue = kBlockPatchesDefault * 3 / 4;  // then the block is due at once
constexpr Duration kRefusedPause =
    seconds(5);  // the daemon has not taken bytes: not tried meanwhile
// What a block in the records costs beside its bytes: keys, the run, index entries.
constexpr uint32_t kRecordOverheadBytes = 256;

struct Difference {
  uint32_t begin = 0, end = 0;
};

// The bytes of `now` that are to be sent so that `before`, zeros behind it, becomes `now`; at least
// one.
Difference difference(const Bytes& before, const Bytes& now) {
  const size_t common = std::min(before.size(), now.size());
  size_t begin = static_cast<size_t>(
      std::mismatch(now.begin(), now.begin() + static_cast<ptrdiff_t>(common), before.begin())
          .first -
      now.begin());
  size_t end = now.size();
  if (now.size() <= before.size()) {
    end = common;
    while (end > begin && now[end - 1] == before[end - 1]) --end;
  }
  if (begin == end) {  // nothing but perhaps the length
    begin = std::min(begin, now.size() - 1);
    end = begin + 1;
  }
  return {static_cast<uint32_t>(begin), static_cast<uint32_t>(end)};
}

}  // namespace

// Whether fsyncs of little data may go into the records now.
bool FileIo::records_wanted() const {
  if (d_.config.inline_flush_bytes_max == 0 || !d_.uses_records()) return false;
  std::lock_guard lock(mutex_);
  return monotonic_now() >= records_refused_until_;
}

void FileIo::records_refused() {
  std::lock_guard lock(mutex_);
  records_refused_until_ = monotonic_now() + kRefusedPause;
}

// How the block can go into the records: its change, or none for the whole; how many bytes that
// are. nullopt: it cannot. `cut_from`: blocks from here on are cut off first.
std::optional<uint64_t> FileIo::plan_block(Inode& inode, DirtyBlock& block, bool in_flight,
                                           std::optional<uint64_t> cut_from) {
  const uint64_t limit = d_.config.inline_flush_bytes_max;
  const uint64_t whole = block.plain->size();
  const bool can_patch =
      !in_flight && inode.unsure.empty() && (!cut_from || block.block < *cut_from);
  const auto stored = can_patch ? d_.reader.stored(inode.ino, block.block) : BlockReader::Stored{};
  if (stored.mapped && stored.plain && stored.patches < kBlockPatchesDefault) {
    const Difference differs = difference(*stored.plain, *block.plain);
    const uint64_t length = differs.end - differs.begin;
    const bool short_enough = stored.patch_bytes + length <= inode.block_bytes() / 2;
    if (length <= limit && short_enough && 2 * length <= whole) {
      block.change =
          DirtyBlock::Change{stored.version, differs.begin, static_cast<uint32_t>(length)};
      return length;
    }
  }
  if (whole > limit) return std::nullopt;
  return whole;
}

// Marks the unit for the records if all of it fits there. `in_flight`: its blocks that earlier
// units have too. The caller holds the inode's mutex.
void FileIo::plan_records(Inode& inode, FlushUnit& unit, const std::vector<uint64_t>& in_flight,
                          std::optional<uint64_t> cut_from) {
  if (unit.blocks.empty() || unit.blocks.size() > kRecordBlocksMax) return;
  uint64_t sum = 0, overhead = 0;
  bool fits = true;
  for (DirtyBlock& block : unit.blocks) {
    const bool flying = std::binary_search(in_flight.begin(), in_flight.end(), block.block);
    const auto bytes = plan_block(inode, block, flying, cut_from);
    fits = bytes.has_value();
    if (!fits) break;
    sum += *bytes;
    overhead += kRecordOverheadBytes;
  }
  fits = fits && sum <= d_.config.inline_flush_bytes_max &&
         inode.record_bytes + sum + overhead <= d_.config.inline_file_bytes_max &&
         record_bytes_ + sum + overhead <= d_.config.inline_bytes_max;
  unit.to_records = fits;
  if (fits) return;
  for (DirtyBlock& block : unit.blocks) block.change.reset();
}

// A committed unit: which of its blocks are in the records now. The caller holds the inode's mutex.
void FileIo::note_records(const InodePtr& inode, const UnitInFlight& unit,
                          const FlushResult& done) {
  if (done.pieces.empty() && inode->in_records.empty()) return;
  for (const uint64_t block : unit.blocks) {
    const auto piece = std::find_if(done.pieces.begin(), done.pieces.end(),
                                    [&](const pb::SealedPiece& p) { return p.block() == block; });
    if (piece == done.pieces.end() || !piece->patch()) drop_record(*inode, block);
    if (piece == done.pieces.end()) continue;
    auto& [patches, bytes] = inode->in_records[block];
    const auto added = static_cast<uint32_t>(piece->sealed().size()) + kRecordOverheadBytes;
    patches += piece->patch() ? 1 : 0;
    bytes += added;
    inode->record_bytes += added;
    record_bytes_ += added;
  }
  if (unit.carries.truncate_to) {
    const uint64_t bs = inode->block_bytes();
    const uint64_t end = (*unit.carries.truncate_to + bs - 1) / bs;
    for (auto it = inode->in_records.lower_bound(end); it != inode->in_records.end();) {
      const uint64_t block = (it++)->first;
      if (!std::binary_search(unit.blocks.begin(), unit.blocks.end(), block))
        drop_record(*inode, block);
    }
  }
  inode->records_at = monotonic_now();
  std::lock_guard lock(mutex_);
  if (inode->in_records.empty())
    with_records_.erase(inode->ino);
  else
    with_records_.emplace(inode->ino, inode);
}

void FileIo::drop_record(Inode& inode, uint64_t block) {
  const auto it = inode.in_records.find(block);
  if (it == inode.in_records.end()) return;
  inode.record_bytes -= it->second.bytes;
  record_bytes_ -= it->second.bytes;
  inode.in_records.erase(it);
}

// The lease is gone, or the file: its blocks in the records are nobody's work any more.
void FileIo::forget_records(Inode& inode) {
  record_bytes_ -= inode.record_bytes;
  inode.record_bytes = 0;
  inode.in_records.clear();
  std::lock_guard lock(mutex_);
  with_records_.erase(inode.ino);
}

// Makes blocks that are in the records dirty with what they hold, up to `bytes_max`, so that the
// next unit takes them into a stripe. What changes them meanwhile makes them ordinary dirty blocks.
result<uint64_t> FileIo::load_records(const InodePtr& inode, uint64_t bytes_max) {
  const auto use = UseGuard::acquire_held(d_.metadata, inode, pb::LEASE_WRITE);
  std::vector<uint64_t> blocks;
  uint64_t shares = 0;
  {
    std::lock_guard lock(inode->mutex);
    if (!use) {
      forget_records(*inode);
      return uint64_t{0};
    }
    shares = inode->shares;
    for (const auto& [block, record] : inode->in_records) {
      if (inode->dirty.contains(block) || inode->flushing.contains(block)) continue;
      blocks.push_back(block);
    }
  }
  uint64_t loaded = 0;
  for (const uint64_t block : blocks) {
    if (loaded >= bytes_max) break;
    TRY(const auto stored, fetch_block(inode, block));
    std::lock_guard lock(inode->mutex);
    const auto limit = inode->mapped_limit();
    const bool changed = inode->shares != shares || inode->sharing ||
                         inode->dirty.contains(block) || inode->flushing.contains(block) ||
                         !inode->in_records.contains(block) || (limit && block >= *limit);
    if (changed || !stored || stored->empty()) continue;
    loaded += stored->size();
    remember(inode);
    budget_.add(stored->size());
    inode->dirty_bytes += stored->size();
    inode->dirty.emplace(block, std::make_shared<Bytes>(*stored));
    inode->resealed.insert(block);
  }
  return loaded;
}

bool FileIo::has_records(const InodePtr& inode) {
  std::lock_guard lock(inode->mutex);
  return !inode->in_records.empty();
}

// All of the file, as long as nobody adds to it.
result<void> FileIo::store_records(const InodePtr& inode) {
  for (int round = 0; round < kStoreRoundsMax && has_records(inode); ++round) {
    TRY(const uint64_t loaded, load_records(inode, kResealBytesMax));
    TRY(flush(inode, false));
    if (loaded == 0) break;
  }
  return success();
}

void FileIo::store_records_for_others(const InodePtr& inode) {
  if (!has_records(inode) || quorum_in_doubt()) return;
  if (auto stored = store_records(inode); !stored)
    spdlog::info("bytes of inode {} stay in the metadata: {}", inode->ino,
                 stored.error().message());
}

void FileIo::store_all_records() {
  std::vector<InodePtr> inodes;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [ino, inode] : with_records_) inodes.push_back(inode);
  }
  for (const auto& inode : inodes) {
    {
      std::lock_guard lock(inode->mutex);
      if (inode->attr_known && inode->attr.nlink() == 0) continue;
    }
    if (quorum_in_doubt()) return;
    store_records_for_others(inode);
  }
}

// Which files have to go into stripes now: quiet ones, those with many patches of a block or many
// bytes, and, when all together have many, the oldest half.
std::vector<InodePtr> FileIo::records_due() {
  struct Candidate {
    InodePtr inode;
    MonotonicTime at;
  };
  std::vector<InodePtr> all, due;
  std::vector<Candidate> others;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [ino, inode] : with_records_) all.push_back(inode);
  }
  const auto now = monotonic_now();
  const auto quiet = milliseconds(d_.config.inline_quiet_ms);
  for (const auto& inode : all) {
    std::lock_guard lock(inode->mutex);
    const bool under_way =
        !inode->resealed.empty() ||
        std::any_of(inode->units.begin(), inode->units.end(),
                    [](const auto& unit) { return !unit.second.resealed.empty(); });
    if (inode->recalling || now < inode->retry_at || under_way) continue;
    if (inode->attr_known && inode->attr.nlink() == 0) {
      if (inode->opens == 0) forget_records(*inode);
      continue;
    }
    const bool many = inode->record_bytes > d_.config.inline_file_bytes_max / 2 ||
                      std::any_of(inode->in_records.begin(), inode->in_records.end(),
                                  [](const auto& r) { return r.second.patches >= kPatchesDue; });
    if (many || (inode->clean() && now - inode->records_at >= quiet))
      due.push_back(inode);
    else
      others.push_back({inode, inode->records_at});
  }
  if (record_bytes_ > d_.config.inline_bytes_max / 2) {
    std::sort(others.begin(), others.end(), [](auto& a, auto& b) { return a.at < b.at; });
    others.resize((others.size() + 1) / 2);
    for (auto& candidate : others) due.push_back(std::move(candidate.inode));
  }
  return due;
}

void FileIo::store_due_records() {
  find_leftovers();
  {
    std::lock_guard lock(mutex_);
    if ((with_records_.empty() && leftovers_.empty()) || storing_records_) return;
    storing_records_ = true;
  }
  resealer_.post([this] {
    adopt_leftovers();
    auto due = quorum_in_doubt() ? std::vector<InodePtr>() : records_due();
    uint64_t loaded = 0;
    size_t taken = 0;
    for (; taken < due.size() && loaded < kResealBytesMax; ++taken) {
      auto bytes = load_records(due[taken], kResealBytesMax - loaded);
      if (bytes) {
        loaded += bytes.value();
        continue;
      }
      std::lock_guard lock(due[taken]->mutex);
      note_failure(*due[taken], bytes.error().in("bytes in the metadata"));
    }
    due.resize(taken);
    // Together, so that they share stripes.
    for (const auto& inode : due) start_flush(inode, Take::everything, Urgency::batch, false);
    if (loaded > 0) d_.pipeline.flush();
    std::lock_guard lock(mutex_);
    storing_records_ = false;
    clones_answered_.notify_all();
  });
}

}  // namespace datacloud
