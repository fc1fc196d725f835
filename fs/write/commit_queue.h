// Commits stripes in the order of their units, and answers the units.
//
// Jobs enter in the order they were closed and may become ready in any order. A job is committed
// once no earlier job that shares an inode with it is unfinished; all jobs that are ready together
// go in one transaction. When a job fails, every unit of its inodes from there on fails with it
// (their blocks would otherwise become visible without the earlier ones), including units submitted
// before the caller is told of the failure; units of other inodes in the same stripes are
// committed.
//
// A commit refused as revoked is redone: `redo` seals and puts the job again under new ids, its
// place in the order kept. Objects of a job that fails for certain are abandoned; those of a commit
// of unknown outcome (no answer) are not: a record may name them.
//
// Threads: all methods from any thread. Units are answered on `callbacks`, one at a time, for one
// inode in order of success.
#pragma once

#include <condition_variable>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "common/base/executor.h"
#include "common/base/refusal_pause.h"
#include "fs/write/abandon_reporter.h"
#include "fs/write/stripe_putter.h"
#include "fs/write/write_job.h"

namespace datacloud {

class CommitQueue {
 public:
  struct Dependencies {
    RpcClient& client;
    IdPool& ids;
    Executor& work;       // runs what follows a reply
    Executor& callbacks;  // one thread
    AbandonReporter& abandoned;
    GroupWriter& groups;
    PipelineCounters& counters;
    std::function<void(std::shared_ptr<WriteJob>)> redo;  // must not block
    std::function<void(const WriteJob&)> stripe_done;     // a stripe's place is free
    RefusalPause& daemon_room;                            // told what the daemon has no room for
    RefusalPause& unreserved_room;  // ... and what is not reserved, where all that is free is
  };
  explicit CommitQueue(Dependencies d) : d_(std::move(d)) {}

  // A new unit, in order. False: it was answered at once, as earlier writes of its inode failed.
  bool admit(const std::shared_ptr<WriteUnit>&);
  // The unit and all later ones of its inode fail.
  void fail_unit(const std::shared_ptr<WriteUnit>&, const Error&);
  bool answered(const WriteUnit&) const;

  void enqueue(std::shared_ptr<WriteJob>);  // closed; its place in the order
  void ready(const std::shared_ptr<WriteJob>&, std::shared_ptr<const pb::Stripe>);
  void failed(const std::shared_ptr<WriteJob>&, const Error&);

  size_t units() const;  // not yet answered
  void wait_units_below(size_t limit);
  // Until the callers of the inode's failed units have been told, so that what is submitted then
  // does not fail with them. Not from a callback.
  void wait_told(InodeId);
  void wait_idle();

 private:
  using Batch = std::vector<std::shared_ptr<WriteJob>>;

  void pump(std::unique_lock<std::mutex>&);
  Batch collect();
  void replied(const Batch&, uint64_t session, const result<pb::Reply>&);
  void committed(const std::shared_ptr<WriteJob>&, uint64_t session, const pb::Reply&);
  static void note_outcome(const pb::UpdateOutcome&, FlushResult&);
  void redo(const std::shared_ptr<WriteJob>&, const Error&);
  void drop(const std::shared_ptr<WriteJob>&, const Error&);
  void fail_from(const std::shared_ptr<WriteUnit>&, const Error&);
  void answer(const std::shared_ptr<WriteUnit>&, result<FlushResult>);
  void remove(const std::shared_ptr<WriteJob>&);

  struct Failing {
    int callbacks = 0;  // of failed units, not yet returned
    Error error;
  };

  const Dependencies d_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::list<std::shared_ptr<WriteJob>> jobs_;
  std::map<InodeId, std::list<std::shared_ptr<WriteUnit>>> pending_;  // in order of submission
  std::map<InodeId, Failing> failing_;
  size_t units_ = 0;  // admitted, callback not yet returned
  int commits_ = 0;   // requests under way
};

}  // namespace datacloud
