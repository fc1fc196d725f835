// Reading: dirty blocks first, then what is being flushed, then the stored file.
#include <algorithm>
#include <cstring>

#include "fs/file/file_io.h"

namespace datacloud {
namespace {

constexpr uint64_t kFirstWindowBytes = 1u << 20;  // readahead of a read at the start of a file

}  // namespace

// Grows with sequential reads, up to the configured bound; gone after a seek.
static uint32_t readahead_blocks(FileHandle& handle, uint64_t offset, size_t size,
                                 uint32_t block_bytes, uint64_t bytes_max) {
  std::lock_guard lock(handle.mutex);
  const auto max_blocks = static_cast<uint32_t>(bytes_max / block_bytes);
  const auto first = static_cast<uint32_t>(std::max<uint64_t>(1, kFirstWindowBytes / block_bytes));
  // Concurrent readahead of the kernel arrives slightly out of order: near is sequential.
  const uint64_t slack = 4u << 20;
  const bool near = offset + slack >= handle.next_offset && offset <= handle.next_offset + slack;
  if (offset == 0 && handle.next_offset == 0) {
    handle.window_blocks = first;
  } else if (near) {
    handle.window_blocks = std::min(max_blocks, std::max(first, handle.window_blocks * 2));
  } else {
    handle.window_blocks = 0;
  }
  handle.next_offset = offset + size;
  return std::min(max_blocks, handle.window_blocks);
}

result<FileIo::Pieces> FileIo::read(FileHandle& handle, uint64_t offset, size_t size) {
  const InodePtr& inode = handle.inode;
  TRY(auto use, UseGuard::acquire(d_.metadata, inode, pb::LEASE_READ));
  std::vector<SharedBytes> blocks;  // by block from `first`; null: zeros or still to be fetched
  std::vector<bool> wanted;
  FileRef ref;
  uint64_t first = 0;
  uint32_t bs = 0;
  {
    std::lock_guard lock(inode->mutex);
    ref = inode->file_ref();
    bs = ref.block_bytes;
    if (bs < kBlockBytesMin) return failure(Errc::corrupt, "the file's block size is invalid");
    if (offset >= ref.size || size == 0) {
      Pieces none;
      return none;
    }
    size = std::min<uint64_t>(size, ref.size - offset);
    first = offset / bs;
    const uint64_t count = (offset + size - 1) / bs - first + 1;
    const auto limit = inode->mapped_limit();
    blocks.resize(count);
    wanted.assign(count, false);
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t block = first + i;
      if (const auto d = inode->dirty.find(block); d != inode->dirty.end())
        blocks[i] = std::make_shared<const Bytes>(*d->second);  // it may change under us
      else if (const auto f = inode->flushing.find(block); f != inode->flushing.end())
        blocks[i] = f->second.plain;
      else
        wanted[i] = !limit || block < *limit;
    }
    if (limit) ref.size = std::min(ref.size, *limit * bs);  // no readahead beyond
  }
  const uint32_t ahead = readahead_blocks(handle, offset, size, bs, d_.config.readahead_bytes_max);
  for (size_t i = 0; i < blocks.size();) {
    if (!wanted[i]) {
      ++i;
      continue;
    }
    size_t end = i;
    while (end < blocks.size() && wanted[end]) ++end;
    TRY(auto fetched, d_.reader.read(ref, first + i, static_cast<uint32_t>(end - i),
                                     end == blocks.size() ? ahead : 0));
    for (size_t j = i; j < end && j - i < fetched.size(); ++j) blocks[j] = fetched[j - i];
    i = end;
  }

  Pieces out;
  out.size = size;
  out.owners.push_back(zeros_);
  uint64_t at = offset, left = size;
  for (size_t i = 0; i < blocks.size(); ++i) {
    const uint64_t begin = at - (first + i) * bs;
    const uint64_t length = std::min<uint64_t>(bs - begin, left);
    const uint64_t stored = blocks[i] ? blocks[i]->size() : 0;
    const uint64_t data = begin < stored ? std::min<uint64_t>(length, stored - begin) : 0;
    if (data) {
      out.views.push_back(ByteView(*blocks[i]).subspan(begin, data));
      out.owners.push_back(blocks[i]);
    }
    if (data < length) out.views.push_back(ByteView(*zeros_).first(length - data));
    at += length;
    left -= length;
  }
  out.use.emplace(std::move(use));
  return out;
}

result<SharedBytes> FileIo::fetch_block(const InodePtr& inode, uint64_t block) {
  FileRef ref;
  {
    std::lock_guard lock(inode->mutex);
    ref = inode->file_ref();
  }
  TRY(auto blocks, d_.reader.read(ref, block, 1, 0));
  return blocks.empty() ? nullptr : blocks.front();
}

result<uint64_t> FileIo::seek(const InodePtr& inode, uint64_t offset, bool data) {
  TRY(auto use, UseGuard::acquire(d_.metadata, inode, pb::LEASE_READ));
  // Dirty data is committed first: one map then tells everything.
  {
    std::unique_lock lock(inode->mutex);
    if (!inode->clean()) {
      lock.unlock();
      TRY(flush(inode, false));
    }
  }
  FileRef ref;
  {
    std::lock_guard lock(inode->mutex);
    ref = inode->file_ref();
  }
  if (offset >= ref.size) return failure(Error::posix(ENXIO, "seek beyond the end of the file"));
  const uint64_t end = (ref.size + ref.block_bytes - 1) / ref.block_bytes;
  TRY(auto block, d_.reader.next_mapped(ref, offset / ref.block_bytes, end, data));
  if (block >= end) {
    if (data) return failure(Error::posix(ENXIO, "no data after this offset"));
    return ref.size;
  }
  return std::min(ref.size, std::max(offset, block * ref.block_bytes));
}

}  // namespace datacloud
