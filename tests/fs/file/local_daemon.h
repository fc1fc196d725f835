// A daemon inside the test: the real metadata code over a real store, behind the client's
// interface. One mount only: leases are always granted, and end with the session. Commits can be
// refused, sessions ended, files changed as by another mount, and older records restored, to test
// what the mount keeps.
#pragma once

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "common/rpc/rpc_session.h"
#include "daemon/metadata/metadata_store.h"
#include "daemon/records/block_map.h"
#include "daemon/records/clone_rules.h"
#include "daemon/records/inline_blocks.h"
#include "daemon/records/inline_commit.h"
#include "daemon/records/namespace_ops.h"

namespace datacloud {

class LocalDaemon final : public RpcSession {
 public:
  LocalDaemon(const std::string& directory, const pb::Cloud& cloud) {
    options_.directory = directory;
    if (!MetadataStore::create(options_, cloud, 0, 0)) std::abort();
    open();
  }

  void call(pb::Request request, std::function<void(result<pb::Reply>)> done) override {
    while (request.has_commit() && hold_commits) {
      ++commits_held;
      std::this_thread::sleep_for(milliseconds(1));
    }
    // Held until the reply is applied: replies come in order, and none of an earlier session.
    std::lock_guard lock(mutex_);
    auto reply = handle(request);
    if (reply) reply.value().set_sequence(store_->sequence());
    done(std::move(reply));
  }
  void call_until_known(pb::Request request, Callback callback, Callback) override {
    call(std::move(request), std::move(callback));
  }
  Duration silence() const override { return Duration{}; }
  uint64_t session() const override { return session_; }
  bool connected() const override { return true; }
  MonotonicTime lease_end() const override { return monotonic_now() + seconds(60); }

  // Every n-th commit fails as if the daemon could not be reached (0: none).
  std::atomic<uint32_t> fail_every_commit{0};
  // With every n-th commit the session ends; every other one of these is executed before (0: none).
  std::atomic<uint32_t> lose_session_every_commit{0};

  // Commits wait before they are executed, whatever becomes of their session.
  std::atomic<bool> hold_commits{false};
  std::atomic<uint32_t> commits_held{0};  // grows while one waits

  // So many commits name ids that are not granted any more.
  std::atomic<int> revoke_commits{0};

  // As a daemon whose records have no room, or that takes fewer patches of a block.
  std::atomic<bool> refuse_pieces{false};
  std::atomic<uint32_t> patches_max{kBlockPatchesDefault};
  std::atomic<uint32_t> commits_with_pieces{0};
  std::atomic<uint32_t> requests{0};  // of any kind

  std::atomic<bool> refuse_clones{false};
  std::atomic<uint32_t> clones_made{0};

  void end_session() {
    std::lock_guard lock(mutex_);
    ++session_;
  }
  // As another mount would while this one has no lease: cuts the file to `size`.
  void cut_elsewhere(InodeId ino, uint64_t size) {
    std::lock_guard lock(mutex_);
    pb::InodeUpdate update;
    update.set_ino(ino);
    update.set_truncate_to(size);
    update.set_change_id(++elsewhere_);
    auto tx = store_->begin();
    if (!update_inode(tx, update) || !store_->commit(std::move(tx))) std::abort();
  }
  // The file has lost its only name, and nobody holds it any more.
  void remove(InodeId ino, const std::string& name) {
    std::lock_guard lock(mutex_);
    pb::UnlinkRequest request;
    request.set_parent(kRootInode);
    request.set_name(name);
    auto tx = store_->begin();
    if (!unlink(tx, request) || !reclaim_inode(tx, ino, UINT32_MAX)) std::abort();
    if (!store_->commit(std::move(tx))) std::abort();
  }
  // A copy of the records, and the copy in their place. Ids of objects are not given out again.
  void save() {
    std::lock_guard lock(mutex_);
    store_.reset();
    std::filesystem::copy(options_.directory, options_.directory + ".copy",
                          std::filesystem::copy_options::recursive);
    saved_ino_ = next_ino_;
    open();
  }
  void restore() {
    std::lock_guard lock(mutex_);
    store_.reset();
    std::filesystem::remove_all(options_.directory);
    std::filesystem::rename(options_.directory + ".copy", options_.directory);
    next_ino_ = saved_ino_;
    open();
    ++session_;
  }

  std::vector<pb::Run> runs(InodeId ino) {
    std::lock_guard lock(mutex_);
    return runs_of(store_->begin(), ino, 0, 1u << 20).value();
  }
  std::vector<std::string> check() {
    std::lock_guard lock(mutex_);
    auto findings = check_block_map(store_->begin());
    return findings ? findings.value() : std::vector<std::string>{findings.error().message()};
  }
  InodeId create_file(const std::string& name) {
    pb::Request request;
    request.mutable_create()->set_parent(kRootInode);
    request.mutable_create()->set_name(name);
    request.mutable_create()->set_mode(0100644);
    request.mutable_create()->set_exclusive(true);
    request.mutable_create()->set_now_ns(wall_now_ns());
    auto reply = RpcClient::call(std::move(request));
    return reply ? reply.value().attr().inode().ino() : 0;
  }

 private:
  void open() {
    auto store = MetadataStore::open(options_);
    if (!store) std::abort();
    store_ = std::move(store.value());
  }
  static Error session_lost() {
    return Error(Errc::session_lost, "the test has ended the session");
  }

  static bool has_pieces(const pb::InodeUpdate& update) {
    return std::any_of(update.runs().begin(), update.runs().end(), inline_blocks::has_records);
  }

  result<void> commit(Transaction& tx, const pb::CommitRequest& request, pb::CommitReply& reply) {
    TRY(check_clones(request));
    TRY(const auto pieces, inline_blocks::Pieces::of(request));
    if (!pieces.empty()) ++commits_with_pieces;
    for (const auto& stripe : request.stripes()) {
      TRY(add_stripe(tx, stripe));
    }
    std::vector<StripeId> ids;
    for (const auto& stripe : request.stripes()) ids.push_back(stripe.id());
    for (const auto& update : request.updates()) {
      auto* outcome = reply.add_outcomes();
      const auto inode = get_inode(tx, update.ino());
      if (!inode || !may_follow(inode.value(), update)) {
        outcome->set_outcome(inode ? pb::UpdateOutcome::OVERTAKEN : pb::UpdateOutcome::GONE);
        continue;
      }
      if (leased_[update.ino()] != session_)
        return failure(Errc::stale, "the write lease is of a session that has ended");
      TRY(const bool can_share, may_share(tx, inode.value(), update));
      if (!can_share || (refuse_clones && update.clones_size() > 0)) {
        outcome->set_outcome(pb::UpdateOutcome::NOT_SHARED);
        continue;
      }
      const uint32_t most = patches_max;
      TRY(const bool can_patch, inline_blocks::may_patch(tx, inode.value(), update, pieces, most));
      if (!can_patch || (refuse_pieces && has_pieces(update))) {
        outcome->set_outcome(pb::UpdateOutcome::NOT_SHARED);
        continue;
      }
      clones_made += static_cast<uint32_t>(update.clones_size());
      TRY(auto updated, inline_blocks::update_with(tx, update, pieces, most));
      outcome->set_blocks_mapped(updated.blocks_mapped());
      outcome->set_size(updated.size());
    }
    if (!ids.empty()) {
      TRY(drop_unmapped_stripes(tx, ids));
    }
    return success();
  }

  result<pb::Reply> handle(const pb::Request& request) {
    ++requests;
    pb::Reply reply;
    auto tx = store_->begin();
    switch (request.op_case()) {
      case pb::Request::kGrant:
        reply.mutable_grant()->set_first(next_id_);
        reply.mutable_grant()->set_count(request.grant().count());
        next_id_ += request.grant().count();
        return reply;
      case pb::Request::kLease: {
        TRY(auto inode, get_inode(tx, request.lease().ino()));
        leased_[inode.ino()] = session_;
        *reply.mutable_attr()->mutable_inode() = inode;
        reply.mutable_attr()->set_lease(pb::LEASE_WRITE);
        return reply;
      }
      case pb::Request::kCreate: {
        TRY(auto created, create(tx, request.create(), next_ino_++));
        leased_[created.inode.ino()] = session_;
        *reply.mutable_attr()->mutable_inode() = created.inode;
        reply.mutable_attr()->set_lease(pb::LEASE_WRITE);
        break;
      }
      case pb::Request::kMap: {
        TRY(auto map, read_map(tx, request.map()));
        *reply.mutable_map() = map;
        return reply;
      }
      case pb::Request::kCommit: {
        if (revoke_commits > 0) {
          --revoke_commits;
          return failure(Errc::revoked, "the test has revoked the ids");
        }
        const uint32_t every = fail_every_commit;
        if (every && ++commits_ % every == 0)
          return failure(Errc::unavailable, "the test refuses this commit");
        const uint32_t lose = lose_session_every_commit;
        const bool lost = lose && ++commits_ % lose == 0;
        if (lost) ++losses_;
        if (lost && losses_ % 2) {
          ++session_;
          return failure(session_lost());
        }
        TRY(commit(tx, request.commit(), *reply.mutable_commit()));
        if (lost) {
          TRY(store_->commit(std::move(tx)));
          ++session_;
          return failure(session_lost());
        }
        break;
      }
      default:
        return reply;  // releases, sync, damage, abandon: nothing to remember
    }
    TRY(auto sequence, store_->commit(std::move(tx)));
    (void)sequence;
    return reply;
  }

  std::recursive_mutex mutex_;
  MetadataStore::Options options_;
  std::unique_ptr<MetadataStore> store_;
  std::atomic<uint64_t> session_{1};
  std::map<InodeId, uint64_t> leased_;  // the session that holds WRITE
  uint64_t next_id_ = 1000;
  InodeId next_ino_ = 1000, saved_ino_ = 0;
  uint64_t elsewhere_ = 1;
  uint32_t commits_ = 0, losses_ = 0;
};

}  // namespace datacloud
