// The block cache: least recently used blocks leave first, in shards so that readers rarely meet.
//
// Invariant: the bytes counted by a shard (contents plus bookkeeping) never exceed its share of the
// limit when no call is running; a block larger than a share is not kept.
#include "fs/read/block_cache.h"

#include <array>
#include <list>
#include <mutex>
#include <unordered_map>

namespace datacloud {
namespace cache_parts {  // not unnamed: the type of a member of Impl

constexpr size_t kShards = 16;
constexpr uint64_t kEntryOverheadBytes = 192;  // list node, table node, vector, control block

struct Key {
  InodeId ino;
  uint64_t block;
  bool operator==(const Key&) const = default;
};

uint64_t mix(const Key& key) {
  uint64_t x = key.ino * 0x9e3779b97f4a7c15u + key.block;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

struct KeyHash {
  size_t operator()(const Key& key) const { return mix(key); }
};

struct Entry {
  Key key;
  ContentVersion version;
  SharedBytes plain;
};

uint64_t weight(const Entry& e) { return e.plain->capacity() + kEntryOverheadBytes; }

class Shard {
 public:
  SharedBytes get(const Key& key, ContentVersion version) {
    std::lock_guard lock(mutex_);
    const auto it = index_.find(key);
    if (it == index_.end() || it->second->version != version) return nullptr;
    order_.splice(order_.begin(), order_, it->second);
    return it->second->plain;
  }

  void put(Entry entry, uint64_t bytes_max) {
    std::list<Entry> dropped;  // freed after the lock
    std::lock_guard lock(mutex_);
    if (const auto it = index_.find(entry.key); it != index_.end()) drop(it->second, dropped);
    if (weight(entry) > bytes_max) return;
    bytes_ += weight(entry);
    order_.push_front(std::move(entry));
    index_.emplace(order_.front().key, order_.begin());
    while (bytes_ > bytes_max) drop(std::prev(order_.end()), dropped);
  }

  uint64_t bytes() const {
    std::lock_guard lock(mutex_);
    return bytes_;
  }

 private:
  void drop(std::list<Entry>::iterator it, std::list<Entry>& dropped) {
    bytes_ -= weight(*it);
    index_.erase(it->key);
    dropped.splice(dropped.begin(), order_, it);
  }

  mutable std::mutex mutex_;
  std::list<Entry> order_;  // most recently used first
  std::unordered_map<Key, std::list<Entry>::iterator, KeyHash> index_;
  uint64_t bytes_ = 0;
};

}  // namespace cache_parts

using cache_parts::Key, cache_parts::kShards;

struct BlockCache::Impl {
  uint64_t shard_bytes_max;
  std::array<cache_parts::Shard, kShards> shards;
  cache_parts::Shard& of(const Key& key) { return shards[(mix(key) >> 48) % kShards]; }
};

BlockCache::BlockCache(uint64_t bytes_max) : impl_(std::make_unique<Impl>()) {
  impl_->shard_bytes_max = bytes_max / kShards;
}
BlockCache::~BlockCache() = default;

SharedBytes BlockCache::get(InodeId ino, uint64_t block, ContentVersion version) {
  const Key key{ino, block};
  return impl_->of(key).get(key, version);
}

void BlockCache::put(InodeId ino, uint64_t block, ContentVersion version, SharedBytes plain) {
  if (!plain) return;
  const Key key{ino, block};
  impl_->of(key).put({key, version, std::move(plain)}, impl_->shard_bytes_max);
}

uint64_t BlockCache::bytes() const {
  uint64_t sum = 0;
  for (const auto& shard : impl_->shards) sum += shard.bytes();
  return sum;
}

}  // namespace datacloud
