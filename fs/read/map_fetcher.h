// Block maps by need: answers from the cache, asks the daemon for what is unknown, once however
// many readers wait for it.
//
// Thread safety: all methods from any thread; blocks() may wait for the daemon.
#pragma once

#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "common/rpc/rpc.h"
#include "fs/read/block_map_cache.h"

namespace datacloud {

inline constexpr uint64_t kMapCacheBytesMax = 64u << 20;
inline constexpr uint64_t kMapWindowBlocks = 1024;  // asked for at once, at least

class MapFetcher {
 public:
  explicit MapFetcher(RpcClient& client) : client_(client), state_(std::make_shared<State>()) {}

  BlockMapCache& cache() { return state_->cache; }
  // Blocks first..first+count-1. A request also asks for the `ahead` blocks after them.
  result<std::vector<MappedBlock>> blocks(InodeId, uint64_t first, uint64_t count, uint64_t ahead);
  // Asks for the window at `first` in the background unless that is under way.
  void prefetch(InodeId, uint64_t first);
  // Asks for the first window right behind a request for the lease, which has just been sent. The
  // answer is kept only if `held` then finds the lease there: as replies come in the order in which
  // the daemon's records were looked at, it is then as new as the lease, and otherwise may be
  // older. `held` runs on the I/O thread, perhaps after this object's end, and must not block.
  void prefetch_with_lease(InodeId, std::function<bool()> held);
  // Makes block `first` known by one request for up to `count` blocks; the end of what is known.
  result<uint64_t> extend(InodeId, uint64_t first, uint64_t count);

 private:
  struct Request {
    InodeId ino;
    uint64_t first, end;
    bool done = false;
    std::optional<Error> error;
    std::function<bool()> held;  // null: the lease was there when it was sent
  };
  // Shared with the callbacks, which may come after this object's end.
  struct State {
    BlockMapCache cache{kMapCacheBytesMax};
    std::mutex mutex;
    std::condition_variable_any answered;
    std::list<std::shared_ptr<Request>> requests;
  };
  // One under way that covers `first`, or a new one; null when the cache knows it by now.
  std::shared_ptr<Request> request(InodeId, uint64_t first, uint64_t count,
                                   std::function<bool()> held = {});
  static void finish(State&, const std::shared_ptr<Request>&, BlockMapCache::Ticket,
                     const pb::MapRequest&, result<pb::Reply>);

  RpcClient& client_;
  const std::shared_ptr<State> state_;
};

}  // namespace datacloud
