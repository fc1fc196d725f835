// Repairs the stripes of the repair queue on the background threads, those closest to loss first.
//
// Runs on the loop; jobs run StripeRepair on the threads. A stripe that cannot be repaired now (its
// sites are away) is put off with growing pauses, and looked at again when a site returns. A sweep
// over all stripes queues what a changed duty of a site concerns; its cursor is persisted.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>

#include "common/proto/rpc.pb.h"
#include "daemon/jobs/background_context.h"
#include "daemon/repair/stripe_repair.h"

namespace datacloud {

namespace pb {
class RepairDetailsReply;
}

class Repairer {
 public:
  struct Counts {
    uint64_t shards_repaired = 0;
    uint64_t bytes_read = 0, bytes_written = 0;
    uint64_t failures = 0;
  };
  Repairer(BackgroundContext&, BackgroundIds&, std::shared_ptr<EventLoop>, int jobs_max);

  // An interrupted sweep goes on.
  result<void> open(const Transaction&);
  // The queue may have grown.
  void kick();
  // A site came or went: everything put off is looked at again.
  void restart();
  // Every stripe is looked at once more; in the transaction that changes a site's duty.
  void make_sweep_due(Transaction&);
  // Nothing is running, and what is left in the queue is put off.
  bool idle() const { return running_.empty() && !passing_ && !sweeping_; }
  size_t put_off() const { return put_off_.size(); }
  // Why, for the first of them.
  std::vector<std::string> obstacles(size_t count_max) const;
  const Counts& counts() const { return counts_; }
  // Repaired shards with numbers from `after` on; the number behind the last.
  uint64_t lines(uint64_t after, pb::RepairReply&) const;
  // What those from `after` to before `until` read and wrote at each site.
  void details(uint64_t after, uint64_t until, pb::RepairDetailsReply&) const;

 private:
  struct PutOff {
    MonotonicTime until{};
    int attempts = 0;
    std::string reason;
  };
  void step();
  void go_on();
  void begin(const QueuedRepair&);
  void finished(const QueuedRepair&, result<RepairOutcome>);
  bool dequeue(const QueuedRepair&);
  void put_off(const QueuedRepair&, const std::string& reason);
  void sweep_step();
  void count(const RepairOutcome&);

  BackgroundContext& context_;
  BackgroundIds& ids_;
  std::shared_ptr<EventLoop> loop_;
  const size_t jobs_max_;
  Counts counts_;
  std::set<StripeId> running_;
  std::map<StripeId, PutOff> put_off_;  // at most kPutOffMax; more wait in the queue
  // Where a pass begins: at the first entry that may still be there. Entries that are done leave
  // erased records, which a scan from the very beginning has to skip one by one. Such a scan is
  // made once after each kick, because something may have been queued in front, and once before the
  // queue counts as done.
  std::string cursor_, first_;
  bool passing_ = false, again_ = false, sweeping_ = false;
  bool from_start_ = true, whole_pass_ = true;
  StripeId sweep_from_ = 0;
  std::deque<ShardRepair> lines_;  // the newest kLinesMax
  uint64_t next_line_ = 0;
};

}  // namespace datacloud
