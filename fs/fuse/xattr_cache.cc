#include "fs/fuse/xattr_cache.h"

#include <utility>

namespace datacloud {

std::optional<XattrCache::Known> XattrCache::find(InodeId ino, const std::string& name,
                                                  uint64_t session) const {
  std::lock_guard lock(mutex_);
  const auto inode = kept_.find(ino);
  if (inode == kept_.end() || inode->second.session != session) return std::nullopt;
  const auto found = inode->second.by_name.find(name);
  if (found == inode->second.by_name.end()) return std::nullopt;
  return found->second;
}

uint64_t XattrCache::begin() const {
  std::lock_guard lock(mutex_);
  return forgotten_;
}

void XattrCache::keep(uint64_t begun, InodeId ino, const std::string& name, uint64_t session,
                      Known known) {
  const size_t added = cost(name, known);
  if (known.value && known.value->size() > kValueBytesMax) return;
  std::lock_guard lock(mutex_);
  if (begun != forgotten_) return;
  if (const auto it = kept_.find(ino); it != kept_.end() && it->second.session != session)
    drop(ino);
  if (bytes_ + added > kBytesMax) {
    kept_.clear();
    bytes_ = 0;
  }
  OfInode& inode = kept_[ino];
  inode.session = session;
  if (inode.by_name.emplace(name, std::move(known)).second) bytes_ += added;
}

void XattrCache::drop(InodeId ino) {
  const auto it = kept_.find(ino);
  if (it == kept_.end()) return;
  for (const auto& [name, known] : it->second.by_name) bytes_ -= cost(name, known);
  kept_.erase(it);
}

void XattrCache::forget(InodeId ino) {
  std::lock_guard lock(mutex_);
  ++forgotten_;
  drop(ino);
}

size_t XattrCache::bytes() const {
  std::lock_guard lock(mutex_);
  return bytes_;
}

}  // namespace datacloud
