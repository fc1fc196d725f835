// Plain blocks in memory, least recently used out, bounded by bytes. Keyed by (inode, block) and
// valid for one content version only, so a stale entry can never be returned.
// Thread safety: all methods from any thread.
#pragma once

#include <memory>

#include "common/base/bytes.h"
#include "common/base/ids.h"

namespace datacloud {

class BlockCache {
 public:
  explicit BlockCache(uint64_t bytes_max);
  ~BlockCache();

  SharedBytes get(InodeId, uint64_t block, ContentVersion);  // null when absent
  void put(InodeId, uint64_t block, ContentVersion, SharedBytes);
  uint64_t bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace datacloud
