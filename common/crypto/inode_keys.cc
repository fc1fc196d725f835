// Bounded cache of derived keys; see inode_keys.h.
#include "common/crypto/inode_keys.h"

namespace datacloud {

InodeKeys::InodeKeys(SecretKey data_key, std::string cloud_uuid)
    : data_key_(data_key), cloud_uuid_(std::move(cloud_uuid)) {}

SecretKey InodeKeys::key(uint32_t realm, InodeId inode, uint32_t generation) {
  const Id id{realm, inode, generation};
  {
    std::lock_guard lock(mutex_);
    if (auto it = inodes_.find(id); it != inodes_.end()) {
      by_age_.splice(by_age_.begin(), by_age_, it->second.age);
      return it->second.key;
    }
  }
  const SecretKey key = derive_inode_key(realm_key(realm), inode, generation);
  std::lock_guard lock(mutex_);
  if (inodes_.contains(id)) return key;  // another thread derived it meanwhile
  by_age_.push_front(id);
  inodes_.emplace(id, Cached{key, by_age_.begin()});
  if (inodes_.size() > kInodesMax) {
    inodes_.erase(by_age_.back());
    by_age_.pop_back();
  }
  return key;
}

SecretKey InodeKeys::realm_key(uint32_t realm) {
  std::lock_guard lock(mutex_);
  if (auto it = realms_.find(realm); it != realms_.end()) return it->second;
  if (realms_.size() >= kRealmsMax) realms_.clear();
  return realms_.emplace(realm, derive_realm_key(data_key_, cloud_uuid_, realm)).first->second;
}

}  // namespace datacloud
