// fallocate(2): space for blocks is reserved, given back, or kept while their contents become zero.
//
// The daemon decides and keeps the books, in one commit, for which the file is settled as for a
// clone (file_io_clone.cc): its changes are committed before, so that nothing written earlier comes
// after it. Parts of blocks are written as zeros, but for those that have no data.
#include <algorithm>
#include <cerrno>

#include "common/base/inode_flags.h"
#include "fs/file/direct_commit.h"
#include "fs/file/file_io.h"

namespace datacloud {
namespace {

constexpr int kAttemptsMax = 8;         // while the file changes, or sessions end
constexpr uint64_t kAskedBlocks = 256;  // whether they are reserved: more than one write at a time

uint64_t blocks_up(uint64_t bytes, uint64_t block) { return bytes / block + (bytes % block != 0); }

// Whole blocks of a range to be emptied, and what of it is in others, in a file of this size.
struct Emptied {
  uint64_t first = 0, end = 0;            // blocks; none when equal
  uint64_t head_begin = 0, head_end = 0;  // bytes to be zeroed, within one block
  uint64_t tail_begin = 0, tail_end = 0;

  Emptied(const FileIo::Allocation& asked, uint64_t size, uint64_t block) {
    const uint64_t begin = asked.offset, stop = asked.offset + asked.length;
    first = blocks_up(begin, block);
    end = stop / block;
    // Behind the file's end there is nothing: its last block is whole.
    if (stop >= size) end = std::max(end, blocks_up(size, block));
    if (first > end || (first == end && begin / block == stop / block)) {
      end = first;
      head_begin = begin;
      head_end = std::max(begin, std::min(stop, size));
      return;
    }
    head_begin = begin;
    head_end = std::max(begin, std::min(first * block, size));
    tail_begin = end * block;
    tail_end = std::max(tail_begin, std::min(stop, size));
  }
};

}  // namespace

// Bytes of one block. A hole stays one.
result<void> FileIo::zero_within_block(const InodePtr& inode, uint64_t begin, uint64_t end) {
  if (begin >= end) return success();
  uint64_t block = 0;
  {
    std::lock_guard lock(inode->mutex);
    block = inode->block_bytes();
  }
  const uint64_t start = begin - begin % block;
  const auto data = seek(inode, start, true);
  if (!data) {
    if (data.error().errno_value() == ENXIO) return success();
    return failure(data.error());
  }
  if (data.value() >= start + block) return success();
  TRY(write(inode, begin, ByteView(*zeros_).first(end - begin), false));
  return success();
}

result<void> FileIo::allocate(const InodePtr& inode, const Allocation& asked) {
  using What = Allocation::What;
  if (asked.offset > kFileBytesMax || asked.length > kFileBytesMax - asked.offset)
    return failure(Error::posix(EFBIG, "files end at 16 TiB"));
  const uint64_t stop = asked.offset + asked.length;
  const bool empties = asked.what != What::reserve;
  const bool grows = !asked.keep_size && asked.what != What::punch;
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    uint64_t size = 0, block = 0;
    {
      TRY(const auto use, UseGuard::acquire(d_.metadata, inode, pb::LEASE_READ));
      std::lock_guard lock(inode->mutex);
      size = inode->attr.size();
      block = inode->block_bytes();
    }
    if (block < kBlockBytesMin) return failure(Errc::corrupt, "the file's block size is invalid");
    const Emptied emptied(asked, size, block);
    if (empties) {
      TRY(zero_within_block(inode, emptied.head_begin, emptied.head_end));
      TRY(zero_within_block(inode, emptied.tail_begin, emptied.tail_end));
    }
    TRY(const auto sharing,
        settle(inode, inode, empties ? Into::stripes : Into::records_if_little));
    if (!sharing) break;
    const auto commit = std::make_shared<DirectCommit>();
    commit->what = "reserving space";
    pb::InodeUpdate& update = commit->update;
    const auto add = [](pb::BlockRange& range, uint64_t first, uint64_t end) {
      range.set_first(first);
      range.set_count(end - first);
    };
    if (empties && emptied.first < emptied.end)
      add(*update.add_unreserve(), emptied.first, emptied.end);
    if (asked.what != What::punch)
      add(*update.add_reserve(), asked.offset / block, blocks_up(stop, block));
    {
      std::lock_guard lock(inode->mutex);
      if (inode->attr.size() != size) continue;  // another mount has changed it
      if (grows) update.set_grow_to(std::max(size, stop));
      inode->reserved_first = inode->reserved_end = 0;
    }
    // A hole within one block is zeros, which are written already.
    if (update.reserve_size() == 0 && update.unreserve_size() == 0) return success();
    const auto done = commit_direct(sharing, commit);
    // The kernel drops its pages of a hole only when it is told of success.
    if (!done && commit->in_doubt && empties) d_.forget_pages(inode->ino);
    TRY(done);
    if (commit->outcome != DirectCommit::Outcome::applied) continue;
    if (asked.what != What::punch) {
      std::lock_guard lock(inode->mutex);
      inode->attr.set_flags(inode->attr.flags() | kInodeReserved);
    }
    return success();
  }
  return failure(Errc::unavailable, "the file is being changed by others: space was not reserved");
}

// Whether the blocks are reserved, by what is remembered or by asking.
result<bool> FileIo::is_reserved(const InodePtr& inode, uint64_t first, uint64_t end) {
  {
    std::lock_guard lock(inode->mutex);
    if (!(inode->attr.flags() & kInodeReserved)) return false;
    if (inode->reserved_first <= first && end <= inode->reserved_end) return true;
  }
  pb::Request request;
  request.mutable_map()->set_ino(inode->ino);
  request.mutable_map()->set_first_block(first);
  request.mutable_map()->set_blocks(std::max(end - first, kAskedBlocks));
  TRY(const auto answer, d_.metadata.call(std::move(request)));
  for (const auto& range : answer.reply.map().reserved()) {
    if (range.first() > first || end - range.first() > range.count()) continue;
    std::lock_guard lock(inode->mutex);
    inode->reserved_first = range.first();
    inode->reserved_end = range.first() + range.count();
    return true;
  }
  return false;
}

// Whether writing so much there is worth trying. The caller is a user of the file's lease.
result<void> FileIo::room_for(const InodePtr& inode, uint64_t offset, uint64_t bytes, bool append) {
  uint64_t block = 0;
  {
    std::lock_guard lock(inode->mutex);
    if (auto full = d_.pipeline.out_of_space(shard_bytes_of_more(*inode, bytes)))
      return failure(std::move(*full));
    block = inode->block_bytes();
    if (append) offset = inode->attr.size();
  }
  auto full = d_.pipeline.unreserved_refusal();
  if (!full || block == 0 || offset > kFileBytesMax || bytes > kFileBytesMax) return success();
  TRY(const bool reserved, is_reserved(inode, offset / block, blocks_up(offset + bytes, block)));
  if (!reserved) return failure(std::move(*full));
  return success();
}

}  // namespace datacloud
