// The newest numbers of statfs that the daemon told, for when it does not answer.
//
// They are kept by the inode that was asked about, as that may be in a tree with numbers of its
// own: those are never told for another. Those of the mount's root are also what is told for an
// inode that nobody has asked about.
//
// Thread safety: all methods from any thread. Memory: inodes_max replies.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <optional>

#include "common/base/ids.h"
#include "common/proto/rpc.pb.h"

namespace datacloud {

class LastKnownSpace {
 public:
  static constexpr size_t inodes_max = 64;  // besides the root; the longest known goes first

  // Before the first answer.
  void set_root(InodeId root) { root_ = root; }
  void remember(InodeId asked, const pb::StatFsReply& numbers) {
    std::lock_guard lock(mutex_);
    known_[asked] = {numbers, ++replies_};
    if (known_.size() <= inodes_max + known_.count(root_)) return;
    auto oldest = known_.end();
    for (auto it = known_.begin(); it != known_.end(); ++it) {
      if (it->first == root_) continue;
      if (oldest == known_.end() || it->second.number < oldest->second.number) oldest = it;
    }
    known_.erase(oldest);
  }
  std::optional<pb::StatFsReply> last(InodeId asked) const {
    std::lock_guard lock(mutex_);
    auto it = known_.find(asked);
    if (it == known_.end()) it = known_.find(root_);
    if (it == known_.end()) return std::nullopt;
    return it->second.numbers;
  }

 private:
  struct Known {
    pb::StatFsReply numbers;
    uint64_t number = 0;  // of the reply
  };
  InodeId root_ = kRootInode;
  mutable std::mutex mutex_;
  std::map<InodeId, Known> known_;
  uint64_t replies_ = 0;
};

}  // namespace datacloud
