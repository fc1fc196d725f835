// Inode keys by (realm, its generation, inode, generation), derived on first use and kept while
// recently used: consecutive blocks mostly belong to one inode, and a derivation costs as much as
// sealing a few KiB.
//
// Thread safety: all methods from any thread. Keys are wiped when dropped.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "common/base/ids.h"
#include "common/crypto/keys.h"

namespace datacloud {

class InodeKeys {
 public:
  InodeKeys(SecretKey data_key, std::string cloud_uuid);
  // The realm's key of generation 0 is derived from the data key unless added; later ones are
  // random. The key of a generation never changes: added again, the first stays.
  void add_realm_key(uint32_t realm, uint16_t generation, SecretKey);
  // nullopt: that generation of the realm's key is not here.
  std::optional<SecretKey> key(uint32_t realm, uint16_t realm_generation, InodeId,
                               uint32_t generation);

 private:
  using RealmId = std::pair<uint32_t, uint16_t>;
  using Id = std::tuple<RealmId, InodeId, uint32_t>;
  struct Cached {
    SecretKey key;
    std::list<Id>::iterator age;
  };
  static constexpr size_t kInodesMax = 1024;
  static constexpr size_t kRealmsMax = 64;  // derived ones

  std::optional<SecretKey> realm_key(const RealmId&);

  const SecretKey data_key_;
  const std::string cloud_uuid_;
  std::mutex mutex_;
  std::map<uint32_t, SecretKey> derived_realms_;
  std::map<RealmId, SecretKey> added_realms_;
  std::map<Id, Cached> inodes_;
  std::list<Id> by_age_;  // most recently used first
};

}  // namespace datacloud
