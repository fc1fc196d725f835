#include "fs/fuse/acl_cache.h"

#include <utility>

namespace datacloud {

std::optional<std::string> AclCache::find(InodeId ino, AclKind kind, uint64_t session) const {
  std::lock_guard lock(mutex_);
  const auto it = kept_.find(ino);
  if (it == kept_.end() || it->second.session != session) return std::nullopt;
  return kind == AclKind::access ? it->second.access : it->second.defaulting;
}

uint64_t AclCache::begin() const {
  std::lock_guard lock(mutex_);
  return forgotten_;
}

void AclCache::keep(uint64_t begun, InodeId ino, AclKind kind, uint64_t session,
                    std::string value) {
  std::lock_guard lock(mutex_);
  if (begun != forgotten_) return;
  if (kept_.size() >= kInodesMax && !kept_.contains(ino)) kept_.clear();
  Kept& kept = kept_[ino];
  if (kept.session != session) kept = {.session = session, .access = {}, .defaulting = {}};
  of(kept, kind) = std::move(value);
}

void AclCache::forget(InodeId ino) {
  std::lock_guard lock(mutex_);
  ++forgotten_;
  kept_.erase(ino);
}

size_t AclCache::size() const {
  std::lock_guard lock(mutex_);
  return kept_.size();
}

}  // namespace datacloud
