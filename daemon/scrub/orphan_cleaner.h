// Frees orphans (inodes without names) that no session holds, in small steps between requests.
//
// An orphan record is written by the transaction that takes the last name, so that a restart finds
// it. Held ones wait: whoever gives up the last lease or open file calls released().
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <unordered_set>

#include "daemon/loop/event_loop.h"
#include "daemon/metadata/committer.h"
#include "daemon/metadata/metadata_store.h"

namespace datacloud {

class OrphanCleaner {
 public:
  struct Hooks {
    std::function<bool(InodeId)> is_held;
    std::function<void()> freed;  // pending deletions may have been added
  };
  OrphanCleaner(MetadataStore& store, Committer& committer, std::shared_ptr<EventLoop> loop,
                Hooks hooks)
      : store_(store), committer_(committer), loop_(std::move(loop)), hooks_(std::move(hooks)) {}

  result<void> open(const Transaction&);  // orphans of earlier runs
  void add(InodeId);                      // has lost its last name
  void named(InodeId);                    // has got a name; it was made without one
  void released(InodeId);                 // nobody holds it any more (any inode)
  // Nothing is freed while paused: sessions that may hold orphans have not resumed yet.
  void pause(bool);
  // No orphan is left that could be freed.
  bool idle() const { return ready_.empty() || paused_; }
  size_t orphans() const { return orphans_.size(); }

 private:
  void kick();
  void step();
  result<bool> free_some();

  MetadataStore& store_;
  Committer& committer_;
  std::shared_ptr<EventLoop> loop_;
  Hooks hooks_;
  std::unordered_set<InodeId> orphans_;
  std::deque<InodeId> ready_;  // candidates; held ones are dropped when their turn comes
  bool paused_ = false, scheduled_ = false;
};

}  // namespace datacloud
