// Takes ids from granted ranges and asks the daemon for the next range when one runs out.
//
// One request per kind is under way at a time; others wait for it. Ids left over when a run does
// not fit are dropped: ids are plentiful, a run of versions must be consecutive. Invariant: an id
// leaves this class once.
#include "fs/write/id_pool.h"

#include <algorithm>

namespace datacloud {
namespace {

// Ids asked for at once: enough for seconds of writing, so that grants cost nothing.
constexpr uint64_t grant_count(IdKind kind) {
  switch (kind) {
    case IdKind::stripe:
      return 256;
    case IdKind::instance:
      return 4096;
    case IdKind::version:
      return 65536;
    case IdKind::inode:
      return 1024;
  }
  return 256;
}

constexpr uint64_t kTakeMax = uint64_t{1} << 20;
constexpr int kCrossedRevocationsMax = 16;

const char* kind_name(IdKind kind) {
  switch (kind) {
    case IdKind::stripe:
      return "stripe";
    case IdKind::instance:
      return "instance";
    case IdKind::version:
      return "version";
    case IdKind::inode:
      return "inode";
  }
  return "unknown";
}

result<IdRange> ask_for_range(RpcClient& client, IdKind kind, uint64_t count) {
  pb::Request request;
  request.mutable_grant()->set_kind(static_cast<uint32_t>(kind));
  request.mutable_grant()->set_count(static_cast<uint32_t>(count));
  TRY(auto reply, client.call(std::move(request)));
  const IdRange range{reply.grant().first(), reply.grant().count()};
  const uint64_t id_max = kind == IdKind::stripe ? kStripeIdMax : UINT64_MAX - 1;
  if (range.first == 0 || range.count < count || range.first > id_max ||
      range.count > id_max - range.first + 1) {
    return failure(Errc::invalid, std::string("the daemon granted an unusable range of ") +
                                      kind_name(kind) + " ids; check the daemon's log");
  }
  return range;
}

}  // namespace

result<uint64_t> IdPool::take(IdKind kind, uint64_t count) {
  if (count == 0 || count > kTakeMax) {
    return failure(Errc::invalid, "cannot take " + std::to_string(count) + " ids at once");
  }
  std::unique_lock lock(mutex_);
  for (int crossed = 0; crossed <= kCrossedRevocationsMax;) {
    IdRange& range = ranges_[kind];
    if (range.count >= count) {
      const uint64_t first = range.first;
      range.first += count;
      range.count -= count;
      return first;
    }
    if (asking_.contains(kind)) {
      answered_.wait(lock);
      continue;
    }
    asking_.insert(kind);
    const uint64_t epoch = epoch_;
    lock.unlock();
    auto granted = ask_for_range(client_, kind, std::max(count, grant_count(kind)));
    lock.lock();
    asking_.erase(kind);
    answered_.notify_all();
    if (!granted) return granted.error().in(std::string("asking for ") + kind_name(kind) + " ids");
    if (epoch == epoch_) {
      ranges_[kind] = granted.value();
    } else {
      ++crossed;
    }
  }
  return failure(Errc::revoked, "the daemon revokes ids faster than it grants them; check its log");
}

void IdPool::revoked() {
  std::lock_guard lock(mutex_);
  ++epoch_;
  ranges_.clear();
}

}  // namespace datacloud
