// Which inodes have changes that a power cut could still take back, and whose they are.
//
// A mount sends such changes of its own again after the daemon's restart; those of others it
// cannot. So what one session has changed is told to another when it is durable: then the changes
// that different mounts send again do not depend on each other.
//
// Bounded by what is changed between two syncs of the store, which come once a second at least;
// full() asks for one earlier.
#pragma once

#include <deque>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/proto/rpc.pb.h"

namespace datacloud {

// The inodes that a request changes, or whose state its reply tells.
std::vector<InodeId> inodes_concerned(const pb::Request&, const pb::Reply&);

class UndurableChanges {
 public:
  static constexpr size_t kChangesMax = 65536;

  void note(SessionId author, Sequence, const std::vector<InodeId>&);
  // Whether somebody else has changed one of them.
  bool by_others(SessionId reader, const std::vector<InodeId>&) const;
  // False: by_others() is, for any inodes.
  bool has_others(SessionId reader) const {
    return !changes_.empty() && (several_ || author_ != reader);
  }
  // Everything up to there survives a power cut.
  void durable(Sequence);
  bool full() const { return order_.size() >= kChangesMax; }
  bool empty() const { return changes_.empty(); }

 private:
  struct Change {
    SessionId author = 0;  // 0: several
    Sequence sequence = 0;
  };
  std::unordered_map<InodeId, Change> changes_;
  std::deque<std::pair<Sequence, InodeId>> order_;
  SessionId author_ = 0;  // of all changes, unless
  bool several_ = false;
};

}  // namespace datacloud
