// Which blocks of a file hold data: st_blocks, SEEK_DATA and SEEK_HOLE.
//
// A block holds data when it is dirty, on its way to the sites, or mapped and not cut off by a
// truncate that is not committed yet. Blocks only move in that order, so what is not committed is
// collected first and the map is asked afterwards: a block that moves meanwhile is found twice (and
// counted once), never missed. So a commit changes nothing of what is said here, and what the
// kernel keeps of it stays true.
#include <algorithm>
#include <iterator>

#include "fs/file/file_io.h"

namespace datacloud {
namespace {

// Stretches of mapped blocks that are counted one by one; a file with more is estimated.
constexpr int kStretchesMax = 1 << 16;

uint64_t blocks_of(uint64_t bytes, uint64_t block_bytes) {
  return bytes / block_bytes + (bytes % block_bytes != 0);
}

}  // namespace

struct FileIo::Uncommitted {
  std::vector<uint64_t> blocks;  // with data, ascending
  uint64_t limit = UINT64_MAX;   // what is mapped from here on is cut off

  // The first of `blocks` at or after `from`; UINT64_MAX when there is none.
  uint64_t next(uint64_t from) const {
    const auto it = std::lower_bound(blocks.begin(), blocks.end(), from);
    return it == blocks.end() ? UINT64_MAX : *it;
  }
  uint64_t count(uint64_t from, uint64_t end) const {
    return static_cast<uint64_t>(std::lower_bound(blocks.begin(), blocks.end(), end) -
                                 std::lower_bound(blocks.begin(), blocks.end(), from));
  }
};

// The caller holds the inode's mutex.
FileIo::Uncommitted FileIo::uncommitted(const Inode& inode) {
  std::vector<uint64_t> dirty, flushing;
  for (const auto& [block, buffer] : inode.dirty)
    if (!buffer->empty()) dirty.push_back(block);  // an empty one is part of a hole
  for (const auto& [block, buffer] : inode.flushing) flushing.push_back(block);
  Uncommitted own;
  std::set_union(dirty.begin(), dirty.end(), flushing.begin(), flushing.end(),
                 std::back_inserter(own.blocks));
  own.limit = inode.mapped_limit().value_or(UINT64_MAX);
  return own;
}

result<uint64_t> FileIo::next_data(const FileRef& ref, const Uncommitted& own, uint64_t from,
                                   uint64_t end) {
  const uint64_t stop = std::min(end, own.next(from));
  const uint64_t mapped_end = std::min(stop, own.limit);
  if (from >= mapped_end) return stop;
  TRY(const uint64_t mapped, d_.reader.next_mapped(ref, from, mapped_end, true));
  return mapped < mapped_end ? mapped : stop;
}

result<uint64_t> FileIo::next_hole(const FileRef& ref, const Uncommitted& own, uint64_t from,
                                   uint64_t end) {
  for (uint64_t at = from; at < end;) {
    if (own.next(at) == at) {
      ++at;
      continue;
    }
    if (at >= own.limit) return at;
    TRY(const uint64_t hole, d_.reader.next_mapped(ref, at, std::min(end, own.limit), false));
    if (hole == at) return at;
    at = hole;
  }
  return end;
}

result<uint64_t> FileIo::seek(const InodePtr& inode, uint64_t offset, bool data) {
  TRY(auto use, UseGuard::acquire(d_.metadata, inode, pb::LEASE_READ));
  FileRef ref;
  Uncommitted own;
  {
    std::lock_guard lock(inode->mutex);
    ref = inode->file_ref();
    own = uncommitted(*inode);
  }
  if (ref.block_bytes < kBlockBytesMin)
    return failure(Errc::corrupt, "the file's block size is invalid");
  if (offset >= ref.size) return failure(Error::posix(ENXIO, "seek beyond the end of the file"));
  const uint64_t end = blocks_of(ref.size, ref.block_bytes), from = offset / ref.block_bytes;
  TRY(const uint64_t block, data ? next_data(ref, own, from, end) : next_hole(ref, own, from, end));
  if (block < end) return std::min(ref.size, std::max(offset, block * ref.block_bytes));
  if (data) return failure(Error::posix(ENXIO, "no data after this offset"));
  return ref.size;
}

// Blocks below `below` that are mapped or own.
result<uint64_t> FileIo::count_used(const FileRef& ref, const Uncommitted& own, uint64_t below) {
  uint64_t used = own.count(0, below);
  uint64_t at = 0;
  for (int stretches = 0; at < below; ++stretches) {
    if (stretches == kStretchesMax) return failure(Errc::unavailable, "too many holes to count");
    TRY(const uint64_t first, d_.reader.next_mapped(ref, at, below, true));
    TRY(const uint64_t end, d_.reader.next_mapped(ref, first, below, false));
    used += end - first - own.count(first, end);
    at = end;
  }
  return used;
}

FileIo::BlocksUsed FileIo::blocks_with_data(const InodePtr& inode) {
  FileRef ref;
  Uncommitted own;
  StoredState stored;
  {
    std::lock_guard lock(inode->mutex);
    ref = inode->file_ref();
    if (ref.block_bytes == 0) return {};
    stored = inode->stored;
    if (inode->clean()) return {stored.blocks_mapped, stored.blocks_reserved, true};
    own = uncommitted(*inode);
  }
  const uint64_t end = blocks_of(stored.size, ref.block_bytes);
  const uint64_t below = std::min(end, own.limit);
  const uint64_t beyond = own.count(below, UINT64_MAX);
  if (stored.blocks_mapped == 0) return {own.blocks.size(), 0, true};
  if (stored.blocks_mapped >= end) return {below + beyond, 0, true};  // no holes
  if (below == end && beyond == own.blocks.size()) return {stored.blocks_mapped + beyond, 0, true};
  const auto counted = count_used(ref, own, below);
  if (counted) return {counted.value() + beyond, 0, true};
  return {std::min(below, stored.blocks_mapped + own.count(0, below)) + beyond, 0, false};
}

// What is written and not committed yet is taken to fill reserved blocks first: those that are
// preallocated are the ones that are written. The next commit tells the truth.
FileIo::BlocksUsed FileIo::blocks_used(const InodePtr& inode) {
  BlocksUsed used = blocks_with_data(inode);
  std::lock_guard lock(inode->mutex);
  const StoredState& stored = inode->stored;
  if (inode->clean() || stored.blocks_reserved == 0) return used;
  const uint64_t more = used.blocks - std::min(used.blocks, stored.blocks_mapped);
  used.reserved = stored.blocks_reserved - std::min(stored.blocks_reserved, more);
  used.exact = false;
  return used;
}

}  // namespace datacloud
