// Bytes in the records that nobody moves: a mount that has put them there died, or lost its
// session. Whoever sees them in a file's map takes them over: asks for the WRITE lease, without
// which nothing may be moved, and from then on they are its own (Inode::in_records), so that they
// go into stripes like these (docs/protocol.md, "Bytes in the records").
//
// Nothing is lost when that does not succeed: they stay, and are seen again. Who holds the lease
// while others read gave them to stripes before these could see them, so what is seen is left over;
// unless sites were away then, and the lease tells.
#include <algorithm>
#include <utility>
#include <vector>

#include "common/base/log.h"
#include "fs/file/file_io.h"

namespace datacloud {
namespace {

constexpr size_t kLeftoversMax = 1024;      // files at a time
constexpr size_t kAdoptedBlocksMax = 1024;  // of one file at a time
constexpr size_t kAskedAtOnceMax = 8;       // of one round
constexpr int kAskedMax = 3;                // then it is left until it is seen again
constexpr Duration kLeasePatience = seconds(10);
constexpr Duration kAskedPause = milliseconds(200);  // for the answer; longer each time

}  // namespace

// What maps have told since the last call. Does not block.
void FileIo::find_leftovers() {
  for (const InodeId ino : d_.reader.take_found()) {
    if (!adopts_) continue;
    InodePtr inode = d_.metadata.table().find(ino);
    if (!inode) continue;
    std::lock_guard lock(mutex_);
    if (leftovers_.size() >= kLeftoversMax) continue;
    const auto due = monotonic_now() + milliseconds(d_.config.inline_quiet_ms);
    leftovers_.emplace(ino, Leftover{std::move(inode), due, 0});
  }
}

// Takes over what there is a lease for, and asks for some of the others.
void FileIo::adopt_leftovers() {
  std::vector<InodePtr> due;
  const auto now = monotonic_now();
  {
    std::lock_guard lock(mutex_);
    for (const auto& [ino, leftover] : leftovers_) {
      if (due.size() >= kAskedAtOnceMax) break;
      if (leftover.due <= now) due.push_back(leftover.inode);
    }
  }
  if (due.empty() || quorum_in_doubt()) return;
  for (const auto& inode : due) {
    const bool settled = adopt(inode);
    {
      std::lock_guard lock(mutex_);
      const auto it = leftovers_.find(inode->ino);
      if (it == leftovers_.end()) continue;
      if (settled || it->second.asked >= kAskedMax) {
        leftovers_.erase(it);
        continue;
      }
      it->second.due = now + kAskedPause * (1 << 2 * it->second.asked++);
    }
    // When it is there the next round takes them over.
    d_.metadata.ask(lease_request(inode->ino, pb::LEASE_WRITE, false), kLeasePatience,
                    [](result<MetadataClient::Answer>) {});
  }
}

// True: there is nothing more to do about the file.
bool FileIo::adopt(const InodePtr& inode) {
  const auto blocks = d_.reader.in_records(inode->ino, kAdoptedBlocksMax);
  std::lock_guard lock(inode->mutex);
  const bool gone = inode->attr_known && inode->attr.nlink() == 0;
  const bool others = std::any_of(blocks.begin(), blocks.end(), [&](const auto& at) {
    return !inode->in_records.contains(at.block);
  });
  if (!others || gone) return true;
  if (!d_.metadata.holds(*inode, pb::LEASE_WRITE) || inode->recalling) return false;
  for (const auto& at : blocks) {
    // What is being written replaces them.
    if (inode->dirty.contains(at.block) || inode->flushing.contains(at.block)) continue;
    const auto bytes = static_cast<uint32_t>(at.bytes);
    if (!inode->in_records.emplace(at.block, BlockInRecords{at.patches, bytes}).second) continue;
    inode->record_bytes += bytes;
    record_bytes_ += bytes;
  }
  if (inode->in_records.empty()) return true;
  std::lock_guard own_lock(mutex_);
  with_records_.emplace(inode->ino, inode);
  return true;
}

}  // namespace datacloud
