// Freeing orphans step by step.
#include "daemon/scrub/orphan_cleaner.h"

#include "common/base/log.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"

namespace datacloud {
namespace {

constexpr int kInodesPerStep = 16;
constexpr uint32_t kRunsPerInodeStep = 128;
constexpr auto kPause = milliseconds(1);

}  // namespace

result<void> OrphanCleaner::open(const Transaction& txn) {
  const std::string prefix = key::orphan(0).substr(0, 1);
  TRY(txn.scan(prefix, key::after_prefix(prefix), [&](std::string_view k, std::string_view) {
    if (k.size() == 9) orphans_.insert(key::u64_at(k, 1));
    return true;
  }));
  ready_.assign(orphans_.begin(), orphans_.end());
  kick();
  return success();
}

void OrphanCleaner::add(InodeId ino) {
  if (!orphans_.insert(ino).second) return;
  ready_.push_back(ino);
  kick();
}

void OrphanCleaner::named(InodeId ino) { orphans_.erase(ino); }

void OrphanCleaner::released(InodeId ino) {
  if (orphans_.count(ino) == 0) return;
  ready_.push_back(ino);
  kick();
}

void OrphanCleaner::pause(bool paused) {
  paused_ = paused;
  kick();
}

void OrphanCleaner::kick() {
  if (scheduled_ || paused_ || ready_.empty()) return;
  scheduled_ = true;
  loop_->after(kPause, [this] {
    scheduled_ = false;
    step();
  });
}

void OrphanCleaner::step() {
  if (paused_) return;
  const auto freed = free_some();
  if (!freed) {
    // The inode stays an orphan and is tried again after the next start.
    spdlog::error("freeing removed files: {}", freed.error().message());
  } else if (freed.value()) {
    hooks_.freed();
  }
  kick();
}

// One transaction; true when something was freed.
result<bool> OrphanCleaner::free_some() {
  Transaction txn = store_.begin();
  std::vector<InodeId> freed;
  for (int i = 0; i < kInodesPerStep && !ready_.empty(); ++i) {
    const InodeId ino = ready_.front();
    ready_.pop_front();
    if (orphans_.count(ino) == 0 || hooks_.is_held(ino)) continue;
    const auto done = reclaim_inode(txn, ino, kRunsPerInodeStep);
    if (!done) {
      for (const InodeId other : freed) ready_.push_back(other);
      return failure(done.error().in("inode " + std::to_string(ino)));
    }
    if (!done.value()) {
      ready_.push_front(ino);
      break;
    }
    freed.push_back(ino);
  }
  if (txn.empty()) return false;
  TRY(committer_.apply(std::move(txn)));
  for (const InodeId ino : freed) orphans_.erase(ino);
  return true;
}

}  // namespace datacloud
