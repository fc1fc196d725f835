// Batching of abandoned names into requests.
#include "fs/write/abandon_reporter.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"

namespace datacloud {
namespace {

constexpr size_t kAbandonedMax = 65536;
constexpr size_t kObjectsPerRequestMax = 4096;

}  // namespace

void AbandonReporter::add(std::vector<pb::PendingDeletion> objects) {
  if (objects.empty()) return;
  std::unique_lock lock(mutex_);
  for (auto& object : objects) {
    if (waiting_.size() >= kAbandonedMax) break;
    waiting_.push_back(std::move(object));
  }
  if (!sending_) send_locked(lock);
}

void AbandonReporter::add(const pb::Stripe& stripe) {
  std::vector<pb::PendingDeletion> objects;
  for (int c = 0; c < stripe.shards_size(); ++c) {
    const auto& shard = stripe.shards(c);
    if (shard.state() != pb::SHARD_PRESENT) continue;
    auto& object = objects.emplace_back();
    object.set_stripe(stripe.id());
    object.set_column(static_cast<uint32_t>(c));
    object.set_instance(shard.instance());
    object.set_site(shard.site());
    object.set_bytes(shard.bytes());
  }
  add(std::move(objects));
}

void AbandonReporter::send_locked(std::unique_lock<std::mutex>& lock) {
  if (client_ == nullptr || waiting_.empty()) return;
  const size_t count = std::min(waiting_.size(), kObjectsPerRequestMax);
  std::vector<pb::PendingDeletion> sent(waiting_.end() - static_cast<ptrdiff_t>(count),
                                        waiting_.end());
  waiting_.resize(waiting_.size() - count);
  pb::Request request;
  for (const auto& object : sent) *request.mutable_abandon()->add_objects() = object;
  sending_ = true;
  RpcClient* client = client_;
  lock.unlock();
  client->call(std::move(request),
               [self = shared_from_this(), sent = std::move(sent)](result<pb::Reply> r) mutable {
                 self->answered(std::move(sent), r);
               });
  lock.lock();
}

void AbandonReporter::answered(std::vector<pb::PendingDeletion> sent,
                               const result<pb::Reply>& reply) {
  std::unique_lock lock(mutex_);
  sending_ = false;
  if (reply) {
    send_locked(lock);
  } else {
    SPDLOG_DEBUG("reporting {} abandoned objects: {}", sent.size(), reply.error().message());
    const size_t room = kAbandonedMax - std::min(kAbandonedMax, waiting_.size());
    sent.resize(std::min(sent.size(), room));
    waiting_.insert(waiting_.end(), sent.begin(), sent.end());
  }
  if (!sending_) idle_.notify_all();
}

void AbandonReporter::close(Duration limit) {
  std::unique_lock lock(mutex_);
  if (!sending_) send_locked(lock);
  idle_.wait_for(lock, limit, [this] { return !sending_; });
  client_ = nullptr;
}

}  // namespace datacloud
