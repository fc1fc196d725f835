// Inode keys by (realm, inode, generation), derived on first use and kept while recently used:
// consecutive blocks mostly belong to one inode, and a derivation costs as much as sealing a few
// KiB.
//
// Thread safety: all methods from any thread. Keys are wiped when dropped.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <tuple>

#include "common/base/ids.h"
#include "common/crypto/keys.h"

namespace datacloud {

class InodeKeys {
 public:
  InodeKeys(SecretKey data_key, std::string cloud_uuid);
  SecretKey key(uint32_t realm, InodeId, uint32_t generation);

 private:
  using Id = std::tuple<uint32_t, InodeId, uint32_t>;
  struct Cached {
    SecretKey key;
    std::list<Id>::iterator age;
  };
  static constexpr size_t kInodesMax = 1024;
  static constexpr size_t kRealmsMax = 64;

  SecretKey realm_key(uint32_t realm);

  const SecretKey data_key_;
  const std::string cloud_uuid_;
  std::mutex mutex_;
  std::map<uint32_t, SecretKey> realms_;
  std::map<Id, Cached> inodes_;
  std::list<Id> by_age_;  // most recently used first
};

}  // namespace datacloud
