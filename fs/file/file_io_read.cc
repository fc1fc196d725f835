// Reading: dirty blocks first, then what is being flushed, then the stored file.
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "fs/file/file_io.h"

namespace datacloud {
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
  std::vector<BlockRange> ahead;
  {
    std::lock_guard lock(handle.mutex);
    if (!handle.ahead) handle.ahead = std::make_unique<ReadAhead>(read_ahead_credit_);
    ahead = handle.ahead->on_read({offset, size, ref.size, bs, d_.config.readahead_bytes_max});
  }
  for (size_t i = 0; i < blocks.size();) {
    if (!wanted[i]) {
      ++i;
      continue;
    }
    size_t end = i;
    while (end < blocks.size() && wanted[end]) ++end;
    const bool last =
        std::find(wanted.begin() + static_cast<ptrdiff_t>(end), wanted.end(), true) == wanted.end();
    const auto count = static_cast<uint32_t>(end - i);
    TRY(auto fetched, last ? d_.reader.read(ref, first + i, count, ahead)
                           : d_.reader.read(ref, first + i, count));
    for (size_t j = i; j < end && j - i < fetched.size(); ++j) blocks[j] = fetched[j - i];
    i = end;
  }
  if (!ahead.empty()) {
    std::lock_guard lock(handle.mutex);
    for (const BlockRange& range : ahead) handle.ahead->not_brought(range);
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

void FileIo::expect_read(const InodePtr& inode) {
  {
    std::lock_guard lock(inode->mutex);
    const bool regular = !inode->attr_known || S_ISREG(inode->attr.mode());
    const bool empty = inode->attr_known && !inode->attr_stale && inode->attr.size() == 0;
    if (!regular || empty) return;
  }
  d_.reader.expect_read(inode->ino, [&metadata = d_.metadata, inode] {
    std::lock_guard lock(inode->mutex);
    return metadata.holds(*inode, pb::LEASE_READ);
  });
}

result<SharedBytes> FileIo::fetch_block(const InodePtr& inode, uint64_t block) {
  FileRef ref;
  {
    std::lock_guard lock(inode->mutex);
    ref = inode->file_ref();
  }
  TRY(auto blocks, d_.reader.read(ref, block, 1));
  return blocks.empty() ? nullptr : blocks.front();
}

}  // namespace datacloud
