// A daemon that knows only block maps, for tests of the mount's reading side.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <optional>

#include "common/base/executor.h"
#include "common/base/ids.h"
#include "common/rpc/rpc.h"

namespace datacloud {

class FakeMapDaemon final : public RpcClient {
 public:
  using RpcClient::call;

  // Blocks first.. of the inode are the slots 0.. of the stripe from now on.
  void map(InodeId ino, uint64_t first, uint32_t count, ContentVersion version,
           const pb::Stripe& stripe, uint32_t first_slot = 0) {
    std::lock_guard lock(mutex_);
    stripes_[stripe.id()] = stripe;
    for (uint32_t i = 0; i < count; ++i)
      blocks_[{ino, first + i}] = {stripe.id(), first_slot + i, version + i};
  }
  void replace(const pb::Stripe& stripe) {
    std::lock_guard lock(mutex_);
    stripes_[stripe.id()] = stripe;
  }
  void unmap(InodeId ino, uint64_t first, uint64_t end) {
    std::lock_guard lock(mutex_);
    blocks_.erase(blocks_.lower_bound({ino, first}), blocks_.lower_bound({ino, end}));
  }
  // Runs when a reply has been made and before it is given: for races.
  void before_reply(std::function<void()> f) {
    std::lock_guard lock(mutex_);
    before_reply_ = std::move(f);
  }
  void fail_with(std::optional<Error> e) {
    std::lock_guard lock(mutex_);
    error_ = std::move(e);
  }
  int requests() const { return requests_; }

  void call(pb::Request request, std::function<void(result<pb::Reply>)> done) override {
    ++requests_;
    io_.post([this, request = std::move(request), done = std::move(done)] {
      std::function<void()> before;
      std::optional<Error> error;
      pb::Reply reply;
      {
        std::lock_guard lock(mutex_);
        before = before_reply_;
        error = error_;
        answer(request.map(), *reply.mutable_map());
      }
      if (before) before();
      if (error)
        done(failure(*error));
      else
        done(std::move(reply));
    });
  }
  uint64_t session() const override { return 1; }
  bool connected() const override { return true; }
  MonotonicTime lease_end() const override { return MonotonicTime::max(); }

 private:
  using Block = std::pair<InodeId, uint64_t>;
  struct At {
    StripeId stripe;
    uint32_t slot;
    ContentVersion version;
  };
  // Adds the block to the last run when it continues it.
  static bool extends(pb::MapReply& reply, const std::pair<const Block, At>& at) {
    if (reply.runs_size() == 0) return false;
    pb::Run& last = *reply.mutable_runs()->rbegin();
    const uint32_t n = last.count();
    if (last.first_block() + n != at.first.second || last.stripe() != at.second.stripe ||
        last.first_slot() + n != at.second.slot || last.version() + n != at.second.version)
      return false;
    last.set_count(n + 1);
    return true;
  }
  void answer(const pb::MapRequest& request, pb::MapReply& reply) {
    std::map<StripeId, bool> named;
    auto it = blocks_.lower_bound({request.ino(), request.first_block()});
    const Block end{request.ino(), request.first_block() + request.blocks()};
    for (; it != blocks_.end() && it->first < end && reply.runs_size() < 4096; ++it) {
      if (extends(reply, *it)) continue;
      pb::Run& run = *reply.add_runs();
      run.set_first_block(it->first.second);
      run.set_count(1);
      run.set_stripe(it->second.stripe);
      run.set_first_slot(it->second.slot);
      run.set_version(it->second.version);
      if (named.emplace(it->second.stripe, true).second)
        *reply.add_stripes() = stripes_[it->second.stripe];
    }
  }

  std::mutex mutex_;
  std::map<Block, At> blocks_;
  std::map<StripeId, pb::Stripe> stripes_;
  std::function<void()> before_reply_;
  std::optional<Error> error_;
  std::atomic<int> requests_{0};
  Executor io_{1, 1024};
};

}  // namespace datacloud
