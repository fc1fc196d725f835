// Bounded cache of derived keys; see inode_keys.h.
#include "common/crypto/inode_keys.h"

namespace datacloud {

InodeKeys::InodeKeys(SecretKey data_key, std::string cloud_uuid)
    : data_key_(data_key), cloud_uuid_(std::move(cloud_uuid)) {}

void InodeKeys::add_realm_key(uint32_t realm, uint16_t generation, SecretKey key) {
  std::lock_guard lock(mutex_);
  added_realms_.emplace(RealmId{realm, generation}, key);
}

std::optional<SecretKey> InodeKeys::key(uint32_t realm, uint16_t realm_generation, InodeId inode,
                                        uint32_t generation) {
  const Id id{{realm, realm_generation}, inode, generation};
  {
    std::lock_guard lock(mutex_);
    if (auto it = inodes_.find(id); it != inodes_.end()) {
      by_age_.splice(by_age_.begin(), by_age_, it->second.age);
      return it->second.key;
    }
  }
  const auto of_realm = realm_key({realm, realm_generation});
  if (!of_realm) return std::nullopt;
  const SecretKey key = derive_inode_key(*of_realm, inode, generation);
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

std::optional<SecretKey> InodeKeys::realm_key(const RealmId& id) {
  std::lock_guard lock(mutex_);
  if (auto it = added_realms_.find(id); it != added_realms_.end()) return it->second;
  if (id.second != 0) return std::nullopt;
  if (auto it = derived_realms_.find(id.first); it != derived_realms_.end()) return it->second;
  if (derived_realms_.size() >= kRealmsMax) derived_realms_.clear();
  return derived_realms_.emplace(id.first, derive_realm_key(data_key_, cloud_uuid_, id.first))
      .first->second;
}

}  // namespace datacloud
