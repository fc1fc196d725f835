// A daemon in the test's process: grants ids, applies commits to maps and checks what the real one
// would. Every request is answered from one thread, in order, after an optional random delay.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <thread>

#include "common/base/ids.h"
#include "common/rpc/rpc.h"

namespace datacloud {

class FakeDaemon final : public RpcClient {
 public:
  struct Place {
    StripeId stripe = 0;
    uint32_t slot = 0;
    ContentVersion version = 0;
  };
  struct File {
    uint64_t size = 0;
    std::map<uint64_t, Place> blocks;
    std::vector<uint64_t> sizes;  // after each commit that touched it
    std::optional<int64_t> mtime_ns;
  };

  explicit FakeDaemon(uint64_t seed = 1) : random_(seed), thread_([this] { run(); }) {}
  ~FakeDaemon() override {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

  using RpcClient::call;
  void call(pb::Request request, std::function<void(result<pb::Reply>)> done) override {
    {
      std::lock_guard lock(mutex_);
      queue_.emplace_back(std::move(request), std::move(done));
    }
    wake_.notify_all();
  }
  uint64_t session() const override { return 1; }
  bool connected() const override { return true; }
  MonotonicTime lease_end() const override { return MonotonicTime::max(); }

  // --- What a test sets, from any thread
  void set_delay_ms_max(int ms) {
    with_lock([&] { delay_ms_max_ = ms; });
  }
  // Every id granted so far is revoked.
  void revoke_ids() {
    with_lock([&] {
      for (auto& [kind, next] : next_id_) revoked_below_[kind] = next;
    });
  }
  // The next `count` commits answer `error`.
  void fail_commits(int count, Error error) {
    with_lock([&] {
      failing_ = count;
      failure_ = std::move(error);
    });
  }
  void drop_inode(InodeId ino) {
    with_lock([&] { gone_.insert(ino); });
  }
  // Called for each stripe of a commit; a text is a violation.
  std::function<std::string(const pb::Stripe&)> check_stripe;

  // --- What a test looks at once the pipeline is idle
  std::map<InodeId, File> files;
  std::map<StripeId, pb::Stripe> stripes;
  std::vector<pb::PendingDeletion> abandoned;
  std::vector<std::string> violations;
  int commits = 0, durable_commits = 0, revocations_met = 0;
  std::mutex& mutex() { return mutex_; }

 private:
  template <class F>
  void with_lock(F f) {
    std::lock_guard lock(mutex_);
    f();
  }

  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return stop_ || !queue_.empty(); });
      if (queue_.empty()) return;
      auto [request, done] = std::move(queue_.front());
      queue_.pop_front();
      const int delay = delay_ms_max_ > 0 ? static_cast<int>(random_() % (delay_ms_max_ + 1)) : 0;
      lock.unlock();
      if (delay > 0) std::this_thread::sleep_for(milliseconds(delay));
      lock.lock();
      auto reply = handle(request);
      lock.unlock();
      done(std::move(reply));
      done = nullptr;
      lock.lock();
    }
  }

  result<pb::Reply> handle(const pb::Request& request) {
    pb::Reply reply;
    if (request.has_grant()) {
      uint64_t& next = next_id_.try_emplace(request.grant().kind(), 1).first->second;
      reply.mutable_grant()->set_first(next);
      reply.mutable_grant()->set_count(request.grant().count());
      next += request.grant().count();
    } else if (request.has_commit()) {
      TRY(commit(request.commit(), *reply.mutable_commit()));
    } else if (request.has_abandon()) {
      for (const auto& object : request.abandon().objects()) {
        abandoned.push_back(object);
        const auto named = stripes.find(object.stripe());
        if (named == stripes.end()) continue;
        const auto& shard = named->second.shards(static_cast<int>(object.column()));
        if (shard.instance() == object.instance()) violations.push_back("abandoned a named object");
      }
    }
    return reply;
  }

  bool revoked(const pb::CommitRequest& request) {
    const auto bad = [&](IdKind kind, uint64_t id) {
      return id < revoked_below_[static_cast<uint32_t>(kind)];
    };
    for (const auto& stripe : request.stripes()) {
      if (bad(IdKind::stripe, stripe.id())) return true;
      for (const auto& shard : stripe.shards()) {
        if (shard.state() == pb::SHARD_PRESENT && bad(IdKind::instance, shard.instance())) {
          return true;
        }
      }
    }
    for (const auto& update : request.updates()) {
      for (const auto& run : update.runs()) {
        if (bad(IdKind::version, run.version())) return true;
      }
    }
    return false;
  }

  result<void> commit(const pb::CommitRequest& request, pb::CommitReply& reply) {
    if (failing_ > 0) {
      --failing_;
      return failure_;
    }
    if (revoked(request)) {
      ++revocations_met;
      return failure(Errc::revoked, "ids were revoked");
    }
    ++commits;
    durable_commits += request.durable();
    for (const auto& stripe : request.stripes()) {
      if (!stripes.emplace(stripe.id(), stripe).second) violations.push_back("stripe id reused");
      if (check_stripe) {
        if (auto wrong = check_stripe(stripe); !wrong.empty()) violations.push_back(wrong);
      }
    }
    for (const auto& update : request.updates()) {
      auto* outcome = reply.add_outcomes();
      if (gone_.contains(update.ino())) {
        outcome->set_outcome(pb::UpdateOutcome::GONE);
        continue;
      }
      apply(update);
      outcome->set_blocks_mapped(files[update.ino()].blocks.size());
      outcome->set_size(files[update.ino()].size);
    }
    return success();
  }

  void apply(const pb::InodeUpdate& update) {
    File& file = files[update.ino()];
    if (update.has_truncate_to()) {
      file.size = update.truncate_to();
      file.blocks.erase(file.blocks.lower_bound((file.size + 4095) / 4096), file.blocks.end());
    }
    for (const auto& run : update.runs()) {
      const auto stripe = stripes.find(run.stripe());
      if (stripe == stripes.end() || run.first_slot() + run.count() >
                                         static_cast<uint32_t>(stripe->second.slot_length_size())) {
        violations.push_back("a run names slots that do not exist");
        continue;
      }
      for (uint32_t i = 0; i < run.count(); ++i) {
        file.blocks[run.first_block() + i] = {run.stripe(), run.first_slot() + i,
                                              run.version() + i};
      }
    }
    if (update.has_grow_to()) file.size = std::max(file.size, update.grow_to());
    if (update.has_mtime_ns()) file.mtime_ns = update.mtime_ns();
    file.sizes.push_back(file.size);
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::pair<pb::Request, std::function<void(result<pb::Reply>)>>> queue_;
  bool stop_ = false;
  std::mt19937_64 random_;
  int delay_ms_max_ = 0;
  std::map<uint32_t, uint64_t> next_id_, revoked_below_;
  int failing_ = 0;
  Error failure_;
  std::set<InodeId> gone_;
  std::thread thread_;  // last
};

}  // namespace datacloud
