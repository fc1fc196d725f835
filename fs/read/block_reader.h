// Blocks of a file: block map (fetched from the daemon, cached while the lease holds), block
// cache, stripe reader, readahead.
//
// The caller holds at least a READ lease on the inode during every call and has looked at its own
// dirty blocks first. Threads: all methods from any thread; read() blocks.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "common/base/executor.h"
#include "common/config/config.h"
#include "common/rpc/rpc.h"
#include "common/site/site_set.h"
#include "fs/read/block_cache.h"
#include "fs/read/block_map_cache.h"
#include "fs/read/read_ahead.h"
#include "fs/read/stripe_reader.h"

namespace datacloud {

struct FileRef {
  InodeId ino = 0;
  uint32_t realm = 0;
  uint32_t block_bytes = 0;
  uint64_t size = 0;  // as the mount sees it: readahead stops there
};

class BlockReader {
 public:
  struct Dependencies {
    RpcClient& client;
    BlockCache& cache;
    StripeReader& stripes;
    SiteSet& sites;
    MountConfig config;
    const BlockSealer* sealer = nullptr;  // opens bytes in the daemon's records; null: not read
  };
  explicit BlockReader(Dependencies);
  ~BlockReader();

  // Blocks first..first+count-1; null for a block without contents (a hole). A block may be
  // shorter than block_bytes: the rest reads as zeros. Errors: the first failing block's.
  result<std::vector<SharedBytes>> read(const FileRef&, uint64_t first, uint32_t count);
  // The same; the blocks of `ahead` are fetched into the cache in the background. What is not
  // started stays in `ahead`: its map is not known yet, or enough is under way (bounded).
  result<std::vector<SharedBytes>> read(const FileRef&, uint64_t first, uint32_t count,
                                        std::vector<BlockRange>& ahead);

  // A file is being opened and will be read: its map is asked for behind the request for its lease
  // (MapFetcher::prefetch_with_lease), unless something of it is known. Here alone no lease is
  // held.
  void expect_read(InodeId, std::function<bool()> lease_held);

  using PlainBlocks = std::map<uint64_t, SharedBytes>;  // by block number

  // The mount's own commit changed the map: replaces what was mapped there. Call before the
  // dirty blocks are dropped. Those of them that may be used again soon go into the cache.
  void committed(InodeId, const std::vector<pb::Run>&,
                 const std::vector<std::shared_ptr<const pb::Stripe>>&, const PlainBlocks& = {},
                 const std::vector<pb::SealedPiece>& pieces = {});
  // What is known here of a stored block, without asking anybody. `plain`: its bytes, if they are
  // in memory.
  struct Stored {
    bool known = false, mapped = false;  // neither lost nor a hole
    ContentVersion version = 0;          // the newest
    uint32_t patches = 0;
    uint64_t patch_bytes = 0;  // sealed
    SharedBytes plain;
  };
  Stored stored(InodeId, uint64_t block);
  // Files of which the daemon has told blocks with bytes in its records since the last call; and
  // which blocks of one these are, as far as its map is known (BlockMapCache).
  std::vector<InodeId> take_found();
  std::vector<BlockMapCache::InRecords> in_records(InodeId, size_t count_max);
  // Blocks at and after `first_block` are unmapped by a truncate of this mount.
  void truncated(InodeId, uint64_t first_block);
  // The READ lease is gone (or the inode is forgotten): drop its map. Replies of map requests
  // made before are not kept.
  void invalidate(InodeId);

  // Ranges with contents, for SEEK_HOLE and SEEK_DATA: the first mapped (or unmapped) block at or
  // after `from` and below `end`; `end` when there is none.
  result<uint64_t> next_mapped(const FileRef&, uint64_t from, uint64_t end, bool mapped);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace datacloud
