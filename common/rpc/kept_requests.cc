// Keeping, and sending again.
#include "common/rpc/kept_requests.h"

#include <utility>

namespace datacloud {
namespace {

constexpr size_t kOverhead = 256;  // of the maps, per request

}  // namespace

AfterLoss after_loss(const pb::Request& request) {
  switch (request.op_case()) {
    // Leases and ids come from the session that answers.
    case pb::Request::kGrant:
    case pb::Request::kLookup:
    case pb::Request::kLease:
    case pb::Request::kSetattr:
    case pb::Request::kReaddir:
    case pb::Request::kGetxattr:
    case pb::Request::kListxattr:
    case pb::Request::kStatfs:
    case pb::Request::kMap:
    case pb::Request::kSync:
      return AfterLoss::again;
    case pb::Request::kCreate:
    case pb::Request::kLink:
    case pb::Request::kUnlink:
    case pb::Request::kRename:
    case pb::Request::kSetxattr:
    case pb::Request::kRemovexattr:
    case pb::Request::kDamage:
      return AfterLoss::inherited;
    default:
      // Commits name ids that were revoked with the session: they are made anew.
      return AfterLoss::fails;
  }
}

bool is_change(const pb::Request& request) {
  switch (request.op_case()) {
    case pb::Request::kSetattr:
    case pb::Request::kCreate:
    case pb::Request::kLink:
    case pb::Request::kUnlink:
    case pb::Request::kRename:
    case pb::Request::kSetxattr:
    case pb::Request::kRemovexattr:
    case pb::Request::kCommit:
      return true;
    default:
      return false;
  }
}

void KeptRequests::keep(uint64_t id, SharedFrame frame, uint64_t sequence, InodeId ino) {
  const auto [it, added] = kept_.try_emplace(id);
  if (!added) return;
  bytes_ += frame->size() + kOverhead;
  it->second = {std::move(frame), sequence, ino, false, false};
  by_sequence_.emplace(sequence, id);
}

void KeptRequests::erase(Map::iterator it) {
  bytes_ -= it->second.frame->size() + kOverhead;
  kept_.erase(it);
}

void KeptRequests::committed(uint64_t sequence) {
  while (!by_sequence_.empty() && by_sequence_.begin()->first <= sequence) {
    const auto it = kept_.find(by_sequence_.begin()->second);
    by_sequence_.erase(by_sequence_.begin());
    if (it != kept_.end() && !it->second.again) erase(it);
  }
}

KeptRequests::Map KeptRequests::take_all() {
  by_sequence_.clear();
  bytes_ = again_ = unanswered_ = 0;
  return std::exchange(kept_, {});
}

void KeptRequests::send_all_again() {
  by_sequence_.clear();
  for (auto& [id, kept] : kept_) kept.again = true;
  again_ = kept_.size();
}

void KeptRequests::connected() {
  unanswered_ = last_sent_ = 0;
  for (auto& [id, kept] : kept_) kept.sent = false;
}

const SharedFrame* KeptRequests::next() {
  if (again_ == 0 || unanswered_ >= kWindow) return nullptr;
  for (auto it = kept_.upper_bound(last_sent_); it != kept_.end(); ++it) {
    last_sent_ = it->first;
    if (!it->second.again) continue;
    it->second.sent = true;
    ++unanswered_;
    return &it->second.frame;
  }
  return nullptr;
}

bool KeptRequests::waits_for(uint64_t id) const {
  const auto it = kept_.find(id);
  return it != kept_.end() && it->second.again;
}

SharedFrame KeptRequests::answered(uint64_t id, uint64_t sequence) {
  const auto it = kept_.find(id);
  SharedFrame frame = it->second.frame;
  it->second.again = false;
  --again_;
  if (std::exchange(it->second.sent, false)) --unanswered_;
  if (sequence == 0) {
    erase(it);
  } else {
    it->second.sequence = sequence;
    by_sequence_.emplace(sequence, id);
  }
  return frame;
}

std::vector<InodeId> KeptRequests::inodes() const {
  std::vector<InodeId> out;
  for (const auto& [id, kept] : kept_)
    if (kept.ino != 0) out.push_back(kept.ino);
  return out;
}

}  // namespace datacloud
