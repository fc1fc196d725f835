// A daemon inside the test: the real metadata code over a real store, behind the client's
// interface. One mount only: leases are always granted. Commits can be refused, to test what the
// mount keeps.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <mutex>

#include "common/rpc/rpc_session.h"
#include "daemon/metadata/metadata_store.h"
#include "daemon/records/block_map.h"
#include "daemon/records/namespace_ops.h"

namespace datacloud {

class LocalDaemon final : public RpcSession {
 public:
  LocalDaemon(const std::string& directory, const pb::Cloud& cloud) {
    MetadataStore::Options options;
    options.directory = directory;
    if (!MetadataStore::create(options, cloud, 0, 0)) std::abort();
    auto store = MetadataStore::open(options);
    if (!store) std::abort();
    store_ = std::move(store.value());
  }

  void call(pb::Request request, std::function<void(result<pb::Reply>)> done) override {
    std::unique_lock lock(mutex_);
    auto reply = handle(request);
    if (reply) reply.value().set_sequence(store_->sequence());
    lock.unlock();
    done(std::move(reply));
  }
  void call_until_known(pb::Request request, Callback callback, Callback) override {
    call(std::move(request), std::move(callback));
  }
  Duration silence() const override { return Duration{}; }
  uint64_t session() const override { return 1; }
  bool connected() const override { return true; }
  MonotonicTime lease_end() const override { return monotonic_now() + seconds(60); }

  // Every n-th commit fails as if the daemon could not be reached (0: none).
  std::atomic<uint32_t> fail_every_commit{0};

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
    auto reply = RpcClient::call(std::move(request));
    return reply ? reply.value().attr().inode().ino() : 0;
  }

 private:
  result<pb::Reply> handle(const pb::Request& request) {
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
        *reply.mutable_attr()->mutable_inode() = inode;
        reply.mutable_attr()->set_lease(pb::LEASE_WRITE);
        return reply;
      }
      case pb::Request::kCreate: {
        TRY(auto created, create(tx, request.create(), next_id_++));
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
        const uint32_t every = fail_every_commit;
        if (every && ++commits_ % every == 0)
          return failure(Errc::unavailable, "the test refuses this commit");
        for (const auto& stripe : request.commit().stripes()) {
          TRY(add_stripe(tx, stripe));
        }
        for (const auto& update : request.commit().updates()) {
          TRY(auto inode, update_inode(tx, update));
          (void)inode;
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

  std::mutex mutex_;
  std::unique_ptr<MetadataStore> store_;
  uint64_t next_id_ = 1000;
  uint32_t commits_ = 0;
};

}  // namespace datacloud
