// Writing and truncating: changes go into dirty blocks of the inode, under its WRITE lease.
#include <algorithm>
#include <cstring>

#include "common/base/inode_flags.h"
#include "common/base/log.h"
#include "common/base/out_of_space.h"
#include "common/codes/erasure_code.h"
#include "common/stripe/shard_size.h"
#include "fs/base/interruption.h"
#include "fs/file/file_io.h"

namespace datacloud {

// Blocks that are being replaced by shared ones are not changed meanwhile: what a partial write
// would take over of them is of the state before. `lock`: of the inode's mutex.
result<void> FileIo::wait_while_sharing(Inode& inode, std::unique_lock<std::mutex>& lock) {
  return wait_interruptibly(inode.changed, lock, [&] { return !inode.sharing; });
}
FileIo::FileIo(Dependencies d)
    : d_(std::move(d)),
      budget_(d_.config.dirty_bytes_max),
      zeros_(std::make_shared<const Bytes>(kBlockBytesMax)) {
  d_.metadata.table().on_overtaken([this](const InodePtr& inode) { overtaken(inode); });
}

FileIo::~FileIo() {
  wait_shared();
  d_.metadata.table().on_overtaken(nullptr);
}

// Whether changing [begin, end) of a block that is neither dirty nor flushing needs what is stored.
bool FileIo::needs_old_contents(const Inode& inode, uint64_t block, uint64_t begin,
                                uint64_t end) const {
  const uint64_t start = block * inode.block_bytes();
  if (start >= inode.attr.size()) return false;
  const auto limit = inode.mapped_limit();
  if (limit && block >= *limit) return false;
  const uint64_t valid = std::min<uint64_t>(inode.block_bytes(), inode.attr.size() - start);
  return begin > 0 || end < valid;
}

// Makes a block dirty with its stored contents, unless it became dirty meanwhile.
result<void> FileIo::load_partial(const InodePtr& inode, uint64_t block, uint64_t begin,
                                  uint64_t end) {
  uint64_t shares = 0;
  {
    std::lock_guard lock(inode->mutex);
    if (inode->sharing || inode->dirty.count(block) || inode->flushing.count(block) ||
        !needs_old_contents(*inode, block, begin, end))
      return success();
    shares = inode->shares;
  }
  TRY(auto stored, fetch_block(inode, block));
  std::lock_guard lock(inode->mutex);
  if (inode->shares != shares) return success();  // perhaps other contents by now
  if (inode->dirty.count(block) || inode->flushing.count(block)) return success();
  const auto limit = inode->mapped_limit();
  if (limit && block >= *limit) return success();  // truncated meanwhile
  auto buffer = std::make_shared<Bytes>(stored ? *stored : Bytes{});
  budget_.add(buffer->size());
  inode->dirty_bytes += buffer->size();
  remember(inode);
  inode->dirty.emplace(block, std::move(buffer));
  return success();
}

DirtyBuffer& FileIo::dirty_buffer(Inode& inode, uint64_t block) {
  inode.resealed.erase(block);  // it is about to be changed
  const auto found = inode.dirty.find(block);
  if (found != inode.dirty.end()) return found->second;
  const auto flushing = inode.flushing.find(block);
  auto buffer = flushing == inode.flushing.end() ? std::make_shared<Bytes>()
                                                 : std::make_shared<Bytes>(*flushing->second.plain);
  note_size(inode, 0, buffer->size());
  return inode.dirty.emplace(block, std::move(buffer)).first->second;
}

void FileIo::note_size(Inode& inode, uint64_t before, uint64_t after) {
  if (after >= before) {
    budget_.add(after - before);
    inode.dirty_bytes += after - before;
  } else {
    budget_.remove(before - after);
    inode.dirty_bytes -= std::min(inode.dirty_bytes, before - after);
  }
}

// The inode is about to have changes: the flusher must know. The caller holds the inode's mutex.
void FileIo::remember(const InodePtr& inode) {
  if (!inode->has_changes()) inode->dirty_since = monotonic_now();
  std::lock_guard lock(mutex_);
  dirty_.emplace(inode->ino, inode);
}

void FileIo::touch(const InodePtr& inode) {
  remember(inode);
  const FileTime now = from_ns(wall_now_ns());
  set_mtime(inode->attr, now);
  set_ctime(inode->attr, now);
  inode->pending.times = true;
}

uint64_t FileIo::stripe_bytes(Inode& inode) const {
  if (!inode.data_columns) {
    const auto code = make_erasure_code(inode.attr.policy().code());
    inode.data_columns = code ? static_cast<uint32_t>(code.value()->k()) : 1;
  }
  return inode.data_columns * uint64_t{shard_bytes_of(inode.attr.policy().shard_bytes())};
}

// Of the stripe that these and the other changes of the inode would make, at least.
uint64_t FileIo::shard_bytes_of_more(Inode& inode, uint64_t bytes) const {
  (void)stripe_bytes(inode);  // sets data_columns
  return std::min<uint64_t>(shard_bytes_of(inode.attr.policy().shard_bytes()),
                            (inode.dirty_bytes + bytes) / inode.data_columns);
}

// Whether waiting for room in memory is in vain: nothing gets stored any more.
result<void> FileIo::hopeless() {
  std::lock_guard lock(mutex_);
  if (!failing_) return success();
  const bool patient = monotonic_now() - failing_since_ < milliseconds(d_.config.put_deadline_ms);
  if (patient && !is_out_of_space(*failing_)) return success();
  return failure(failing_->in("memory for unwritten data is full"));
}

result<FileIo::Written> FileIo::write(const InodePtr& inode, uint64_t offset, ByteView data,
                                      bool append, Origin origin) {
  TRY(budget_.wait_for_room(data.size(), [this] { return hopeless(); }));
  TRY(auto use, UseGuard::acquire(d_.metadata, inode, pb::LEASE_WRITE));
  if (origin == Origin::program) {
    TRY(room_for(inode, offset, data.size(), append));
  }
  std::unique_lock lock(inode->mutex);
  const uint64_t bs = inode->block_bytes();
  if (bs < kBlockBytesMin) return failure(Errc::corrupt, "the file's block size is invalid");
  for (;;) {
    TRY(wait_while_sharing(*inode, lock));
    if (origin == Origin::pages && is_overtaken_page(*inode))
      return Written{offset, std::move(use)};
    if (append) offset = inode->attr.size();
    // Set by another mount since it was opened.
    if ((inode->attr.flags() & kInodeImmutable) ||
        ((inode->attr.flags() & kInodeAppend) && offset < inode->attr.size()))
      return failure(Error::posix(EPERM, "the file is immutable or append-only"));
    if (offset + data.size() > kFileBytesMax || offset > kFileBytesMax)
      return failure(Error::posix(EFBIG, "files end at 16 TiB"));
    const uint64_t first = offset / bs, last = (offset + data.size() - 1) / bs;
    // Only the first and the last block can be partial.
    std::optional<uint64_t> load;
    for (const uint64_t block : {first, last}) {
      const uint64_t begin = std::max(offset, block * bs) - block * bs;
      const uint64_t end = std::min(offset + data.size(), (block + 1) * bs) - block * bs;
      if (!inode->dirty.count(block) && !inode->flushing.count(block) &&
          needs_old_contents(*inode, block, begin, end))
        load = block;
    }
    if (!load) break;
    const uint64_t begin = std::max(offset, *load * bs) - *load * bs;
    const uint64_t end = std::min(offset + data.size(), (*load + 1) * bs) - *load * bs;
    lock.unlock();
    TRY(load_partial(inode, *load, begin, end));
    lock.lock();
  }
  touch(inode);
  for (uint64_t at = 0; at < data.size();) {
    const uint64_t block = (offset + at) / bs, begin = (offset + at) % bs;
    const uint64_t length = std::min<uint64_t>(bs - begin, data.size() - at);
    Bytes& plain = *dirty_buffer(*inode, block);
    const uint64_t before = plain.size();
    const auto source = data.subspan(at, length);
    if (begin + length > before) {
      if (plain.capacity() < begin + length) plain.reserve(length == bs - begin ? bs : 2 * length);
      if (begin > before) plain.resize(begin);
      const uint64_t kept = plain.size() - begin;  // overwritten part of what is there
      std::copy_n(source.begin(), kept, plain.begin() + begin);
      plain.insert(plain.end(), source.begin() + kept, source.end());
    } else {
      std::copy(source.begin(), source.end(), plain.begin() + begin);
    }
    note_size(*inode, before, plain.size());
    at += length;
  }
  if (offset + data.size() > inode->attr.size()) inode->attr.set_size(offset + data.size());
  const bool full_stripe = inode->dirty_bytes >= stripe_bytes(*inode) + bs;
  const bool may_flush = monotonic_now() >= inode->retry_at;
  const bool hand_over = full_stripe && may_flush && !inode->handing_over;
  inode->handing_over = inode->handing_over || hand_over;
  lock.unlock();
  if (hand_over) hand_over_stripes(inode);
  if (budget_.under_pressure()) d_.nudge_flusher();
  return Written{offset, std::move(use)};
}

// Handing over may wait for places in the pipeline: not while a program waits for its write, which
// has to end when the program is killed. What programs write meanwhile is bounded by the budget.
void FileIo::hand_over_stripes(const InodePtr& inode) {
  d_.pipeline.post([this, inode] {
    const auto full = [&] {
      return inode->dirty_bytes >= stripe_bytes(*inode) + inode->block_bytes() &&
             monotonic_now() >= inode->retry_at;
    };
    uint64_t before = 0;
    {
      std::lock_guard lock(inode->mutex);
      before = inode->next_unit;
      inode->handing_over = full();
      if (!inode->handing_over) return;
    }
    start_flush(inode, Take::stripe, Urgency::batch, false);
    {
      std::lock_guard lock(inode->mutex);
      inode->handing_over = full() && inode->next_unit != before;
      if (!inode->handing_over) return;
    }
    hand_over_stripes(inode);  // behind what others have posted
  });
}

bool FileIo::set_mtime_if_changed(const InodePtr& inode, const FileTime& mtime) {
  std::lock_guard lock(inode->mutex);
  if (inode->clean() || !d_.metadata.holds(*inode, pb::LEASE_WRITE)) return false;
  touch(inode);
  set_mtime(inode->attr, mtime);
  return true;
}

result<void> FileIo::truncate(const InodePtr& inode, uint64_t size) {
  if (size > kFileBytesMax) return failure(Error::posix(EFBIG, "files end at 16 TiB"));
  TRY(auto use, UseGuard::acquire(d_.metadata, inode, pb::LEASE_WRITE));
  std::unique_lock lock(inode->mutex);
  const uint64_t bs = inode->block_bytes();
  if (bs < kBlockBytesMin) return failure(Errc::corrupt, "the file's block size is invalid");
  if (inode->attr.flags() & (kInodeImmutable | kInodeAppend))
    return failure(Error::posix(EPERM, "the file is immutable or append-only"));
  const uint64_t tail = size / bs, tail_bytes = size % bs;
  TRY(wait_while_sharing(*inode, lock));
  // The block that contains the new end keeps no bytes beyond it.
  if (size < inode->attr.size() && tail_bytes) {
    while (!inode->dirty.count(tail) && !inode->flushing.count(tail) && size < inode->attr.size() &&
           needs_old_contents(*inode, tail, tail_bytes, bs)) {
      lock.unlock();
      TRY(load_partial(inode, tail, tail_bytes, bs));
      lock.lock();
      TRY(wait_while_sharing(*inode, lock));
    }
  }
  touch(inode);
  // What is reserved behind the end goes too.
  const bool gives_back = size == inode->attr.size() && (inode->attr.flags() & kInodeReserved);
  if (size < inode->attr.size() || gives_back) {
    inode->reserved_first = inode->reserved_end = 0;
    const uint64_t end = tail + (tail_bytes ? 1 : 0);
    for (auto it = inode->dirty.lower_bound(end); it != inode->dirty.end();
         it = inode->dirty.erase(it))
      note_size(*inode, it->second->size(), 0);
    inode->resealed.erase(inode->resealed.lower_bound(end), inode->resealed.end());
    inode->flushing.erase(inode->flushing.lower_bound(end), inode->flushing.end());
    if (tail_bytes && (inode->dirty.count(tail) || inode->flushing.count(tail))) {
      Bytes& plain = *dirty_buffer(*inode, tail);
      const uint64_t before = plain.size();
      if (before > tail_bytes) plain.resize(tail_bytes);
      note_size(*inode, before, plain.size());
    }
    inode->pending.truncate_to = std::min(size, inode->pending.truncate_to.value_or(size));
  }
  inode->pending.size = true;
  inode->attr.set_size(size);
  return success();
}

}  // namespace datacloud
