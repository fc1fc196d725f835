// The requests of a mount that were answered and could still be lost: changes that a power cut at
// the daemon would take back. They are kept until the daemon says that they are durable, and are
// sent again, in their order, when it has started anew.
//
// Not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "common/base/ids.h"
#include "common/proto/rpc.pb.h"
#include "common/rpc/rpc_frame.h"

namespace datacloud {

// What becomes of a request that may have been executed when its session ends.
enum class AfterLoss {
  again,      // sent again, in whatever session: it only asks, or sets what it would set again
  inherited,  // the same where the new session knows the answers of the former one; else it fails
  fails,      // it meant something in its session only
};
AfterLoss after_loss(const pb::Request&);

// Whether the daemon stores the answer with what the request has changed.
bool is_change(const pb::Request&);

class KeptRequests {
 public:
  struct Kept {
    SharedFrame frame;
    uint64_t sequence = 0;  // of the transaction that made the change
    InodeId ino = 0;        // of a create: the number that it brings
    bool again = false;     // to be sent and answered once more
    bool sent = false;      // that was done, on this connection
  };
  using Map = std::map<uint64_t, Kept>;  // by request id

  void keep(uint64_t id, SharedFrame, uint64_t sequence, InodeId ino);
  // Everything up to there is durable.
  void committed(uint64_t sequence);
  Map take_all();

  // The daemon has started anew: all of them go again.
  void send_all_again();
  // A new connection: what is not answered goes once more.
  void connected();
  // The next to be sent, null: none now. At most kWindow are unanswered at a time.
  static constexpr size_t kWindow = 256;
  const SharedFrame* next();
  bool waits_for(uint64_t id) const;
  // Its answer: `sequence` of the transaction, 0 when it could not be made again. Gives the frame.
  SharedFrame answered(uint64_t id, uint64_t sequence);
  // Whether any is still to be answered once more.
  bool resending() const { return again_ > 0; }

  // Nothing below this id is kept; 0: nothing is kept.
  uint64_t first() const { return kept_.empty() ? 0 : kept_.begin()->first; }
  size_t bytes() const { return bytes_; }
  size_t size() const { return kept_.size(); }
  std::vector<InodeId> inodes() const;  // that creates among them bring

 private:
  void erase(Map::iterator);

  Map kept_;
  std::multimap<uint64_t, uint64_t> by_sequence_;  // of those not to be sent again: id
  size_t bytes_ = 0, again_ = 0, unanswered_ = 0;
  uint64_t last_sent_ = 0;  // of those sent again on this connection
};

}  // namespace datacloud
