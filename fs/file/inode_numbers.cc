// Ranges of inode numbers.
#include "fs/file/inode_numbers.h"

namespace datacloud {

InodeId InodeNumbers::take() {
  InodeId ino = 0;
  bool few = false;
  {
    std::lock_guard lock(state_->mutex);
    auto& ranges = state_->ranges;
    if (!ranges.empty()) {
      ino = ranges.front().first++;
      --state_->left;
      if (--ranges.front().count == 0) ranges.erase(ranges.begin());
    }
    few = state_->left < kGrant / 2;
  }
  if (few) refill();
  return ino;
}

void InodeNumbers::refill() {
  if (client_.protocol() < kProtocolRejoin) return;
  uint64_t epoch = 0;
  {
    std::lock_guard lock(state_->mutex);
    if (state_->asking || state_->left >= kGrant / 2) return;
    state_->asking = true;
    epoch = state_->epoch;
  }
  pb::Request request;
  request.mutable_grant()->set_kind(static_cast<uint32_t>(IdKind::inode));
  request.mutable_grant()->set_count(kGrant);
  client_.call(std::move(request), [state = state_, epoch](const result<pb::Reply>& reply) {
    std::lock_guard lock(state->mutex);
    state->asking = false;
    if (!reply || epoch != state->epoch) return;
    const auto& grant = reply.value().grant();
    if (grant.first() <= kRootInode || grant.count() == 0) return;
    state->ranges.push_back({grant.first(), grant.count()});
    state->left += grant.count();
  });
}

void InodeNumbers::revoked() {
  std::lock_guard lock(state_->mutex);
  ++state_->epoch;
  state_->ranges.clear();
  state_->left = 0;
}

std::vector<IdRange> InodeNumbers::unused() const {
  std::lock_guard lock(state_->mutex);
  return state_->ranges;
}

}  // namespace datacloud
