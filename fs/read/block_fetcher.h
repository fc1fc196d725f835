// Plain blocks by content version: from the cache, from a fetch already under way, or from the
// stripes and what the map brought of the daemon's records. Readers of one block share one fetch,
// readahead included.
//
// Keyed by (inode, block, content version), so an answer is right whatever happened to the map
// meanwhile. Readahead is bounded by `readahead_bytes_max` in all.
// Thread safety: all methods from any thread; only Fetch::wait() blocks.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "common/crypto/sealed_block.h"
#include "fs/base/interruption.h"
#include "fs/read/block_cache.h"
#include "fs/read/block_map_cache.h"
#include "fs/read/stripe_reader.h"

namespace datacloud {

class BlockFetcher {
 public:
  struct Place {
    uint64_t block = 0;
    MappedBlock at;  // not a hole
  };

  // One block on its way.
  class Fetch {
   public:
    // The block, why there is none, or that the caller was interrupted (fs/base/interruption.h).
    result<SharedBytes> wait() {
      const auto token = interruption_token();
      // An interruption wakes all who wait for this block; the others go on waiting.
      const std::stop_callback wake(token, [this] {
        state_ += kPoke;
        state_.notify_all();
      });
      for (uint32_t seen = state_; !(seen & kDone); seen = state_) {
        if (token.stop_requested()) return failure(interruption_error());
        state_.wait(seen);
      }
      return value_;
    }

   private:
    friend class BlockFetcher;
    static constexpr uint32_t kDone = 1, kPoke = 2;
    std::atomic<uint32_t> state_{0};  // kDone, and how often it was poked
    result<SharedBytes> value_{SharedBytes()};
    uint64_t ahead_bytes_ = 0;  // counted as readahead
  };
  using FetchPtr = std::shared_ptr<Fetch>;

  // Exactly one of both is set.
  struct Got {
    SharedBytes plain;
    FetchPtr fetch;
  };

  // `sealer`: opens what is in the records; null: such blocks are not read.
  BlockFetcher(BlockCache&, StripeReader&, const BlockSealer* sealer, uint64_t readahead_bytes_max);
  ~BlockFetcher();  // waits for the fetches under way

  std::vector<Got> get(InodeId, uint32_t realm, const std::vector<Place>&, uint32_t block_bytes);
  // Starts what is neither cached nor on its way, in order, as far as the bound allows; how many of
  // the places are there or on their way then.
  size_t read_ahead(InodeId, uint32_t realm, const std::vector<Place>&, uint32_t block_bytes);

 private:
  struct Key {
    InodeId ino;
    uint64_t block;
    ContentVersion version;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    size_t operator()(const Key& k) const {
      return (k.ino * 0x9e3779b97f4a7c15u) ^ (k.block * 0xbf58476d1ce4e5b9u) ^ k.version;
    }
  };
  struct Started {
    Place place;
    FetchPtr fetch;
  };
  // Cached, shared or new; new ones are added to `started`.
  Got find_or_start(InodeId, const Place&, uint64_t ahead_bytes, std::vector<Started>& started);
  bool present(InodeId, const Place&);
  // What is read of one file.
  struct Source {
    InodeId ino;
    uint32_t realm, block_bytes;
  };
  void launch(const Source&, std::vector<Started>);
  result<Bytes> open_whole(const Source&, const Place&) const;
  result<Bytes> with_patches(const Source&, const Place&, result<Bytes> base) const;
  void finish(const Key&, const FetchPtr&, result<Bytes>);

  BlockCache& cache_;
  StripeReader& stripes_;
  const BlockSealer* const sealer_;
  const uint64_t readahead_bytes_max_;
  std::atomic<uint64_t> ahead_bytes_{0};
  std::mutex mutex_;
  std::condition_variable idle_;
  std::unordered_map<Key, FetchPtr, KeyHash> under_way_;
};

}  // namespace datacloud
