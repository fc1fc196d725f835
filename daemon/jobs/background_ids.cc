// Grants are committed and durable before an id is used, as for mounts.
#include <algorithm>

#include "daemon/jobs/background_context.h"

namespace datacloud {
namespace {

constexpr uint32_t kBatch = 1024;

}  // namespace

result<uint64_t> BackgroundIds::take(IdKind kind, uint32_t count) {
  std::lock_guard lock(mutex_);
  IdRange& left = left_[kind];
  if (left.count < count) {
    const uint32_t wanted = std::max(kBatch, count);
    TRY(left, context_.threads.await<IdRange>([this, kind, wanted](auto done) {
      Transaction txn = context_.store.begin();
      auto range = context_.grant(txn, kind, wanted);
      if (!range) return done(failure(range.error()));
      if (auto committed = context_.committer.apply(std::move(txn)); !committed) {
        return done(failure(committed.error()));
      }
      context_.committer.when_durable([done, range = range.value()] { done(range); });
    }));
  }
  const uint64_t first = left.first;
  left.first += count;
  left.count -= count;
  return first;
}

}  // namespace datacloud
