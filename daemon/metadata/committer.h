// The only way a running daemon changes its metadata, and where it learns what a change is worth.
//
// A change passes three stages, in the order in which changes were applied:
//   applied    the next transaction sees it;
//   committed  it will not be taken back by the end of this process: its author may be told;
//   durable    it survives a power cut: ids it grants may be used, objects it releases may be
//              deleted, an fsync that waited for it may return.
// The local store commits a change by applying it, so that the first two are one moment. Durable is
// what its disk has (LocalCommitter), or what a quorum of the journal's sites has
// (journal_committer.h).
//
// Threads: the loop's only; continuations run on the loop. Failures: a store that cannot write or
// sync can promise nothing more. The daemon is told once (`fatal`) and ends; what waits is dropped.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "daemon/loop/event_loop.h"
#include "daemon/metadata/metadata_store.h"

namespace datacloud {

class Committer {
 public:
  virtual ~Committer() = default;

  // All of the transaction, or nothing. After a failure nothing can be applied any more.
  virtual result<void> apply(Transaction&&) = 0;
  // Runs the function when everything applied so far is committed: at once if it is.
  virtual void when_committed(std::function<void()>) = 0;
  // Runs the function when everything applied so far is durable; never before this call returns.
  virtual void when_durable(std::function<void()>) = 0;
  // As when_durable(), for what is short and starts nothing: replies above all. It need not wait
  // for the loop's thread (EventLoop::run_or_post).
  virtual void tell_when_durable(std::function<void()> f) { when_durable(std::move(f)); }
  // Whether everything applied so far is durable.
  virtual bool durable() const { return false; }

  // Waits until everything applied so far is durable, on a thread that may block. timed_out: it is
  // not yet.
  virtual result<void> wait_durable(Duration deadline) = 0;

  // Whether so much waits to become durable, or others wait for that, that whoever would change
  // more should wait for when_room(). apply() does not refuse it: what must go on, goes on.
  virtual bool full() const { return false; }
  // Runs the function, once, when it is not full: at once if it is not. Those that wait run in
  // order, and each may fill it again.
  virtual void when_room(std::function<void()> f) { f(); }
};

// Commits to the store of this machine alone.
class LocalCommitter final : public Committer {
 public:
  // `fatal` is called on the loop, or within apply().
  LocalCommitter(MetadataStore& store, std::shared_ptr<EventLoop> loop,
                 std::function<void(const Error&)> fatal)
      : store_(store), loop_(std::move(loop)), fatal_(std::move(fatal)) {}

  result<void> apply(Transaction&&) override;
  void when_committed(std::function<void()> f) override { f(); }
  void when_durable(std::function<void()> f) override { wait(std::move(f), Where::loop); }
  void tell_when_durable(std::function<void()> f) override { wait(std::move(f), Where::here); }
  bool durable() const override { return store_.durable() >= store_.sequence(); }
  result<void> wait_durable(Duration) override { return store_.wait_durable(store_.sequence()); }

 private:
  enum class Where { loop, here };
  void wait(std::function<void()>, Where);

  MetadataStore& store_;
  const std::shared_ptr<EventLoop> loop_;
  const std::function<void(const Error&)> fatal_;
};

}  // namespace datacloud
