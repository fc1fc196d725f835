// MapRequests and the readers that wait for them.
#include "fs/read/map_fetcher.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "fs/base/interruption.h"

namespace datacloud {
namespace {

// Replies in a row that tell nothing new, because the map changed while they were on their way.
constexpr int kFruitlessMax = 64;

}  // namespace

std::shared_ptr<MapFetcher::Request> MapFetcher::request(InodeId ino, uint64_t first,
                                                         uint64_t count,
                                                         std::function<bool()> held) {
  auto entry = std::make_shared<Request>();
  entry->held = std::move(held);
  pb::Request request;
  pb::MapRequest& map = *request.mutable_map();
  {
    std::lock_guard lock(state_->mutex);
    for (const auto& r : state_->requests)
      if (r->ino == ino && r->first <= first && first < r->end) return r;
    // Replies are kept before their requests go: one may have come since the caller looked.
    if (state_->cache.known_end(ino, first) > first) return nullptr;
    map.set_ino(ino);
    map.set_first_block(first);
    map.set_blocks(
        static_cast<uint32_t>(std::min({count, uint64_t{UINT32_MAX}, UINT64_MAX - first})));
    entry->ino = ino;
    entry->first = first;
    entry->end = first + map.blocks();
    state_->requests.push_back(entry);
  }
  const auto ticket = state_->cache.begin(ino);
  client_.call(request,
               [state = state_, entry, ticket, map = pb::MapRequest(map)](result<pb::Reply> reply) {
                 finish(*state, entry, ticket, map, std::move(reply));
               });
  return entry;
}

void MapFetcher::finish(State& state, const std::shared_ptr<Request>& entry,
                        BlockMapCache::Ticket ticket, const pb::MapRequest& map,
                        result<pb::Reply> reply) {
  std::optional<Error> error;
  if (!reply) error = reply.error();
  if (reply && !reply.value().has_map())
    error = Error(Errc::corrupt, fmt::format("map of inode {}: the daemon sent no map", map.ino()));
  const bool true_now = !error && (!entry->held || entry->held());
  // Who waits for an answer from before the lease asks again.
  if (entry->held) error.reset();
  const auto kept =
      state.cache.end(map.ino(), ticket, map, true_now ? reply.value().mutable_map() : nullptr);
  if (!kept) error = kept.error();
  std::lock_guard lock(state.mutex);
  entry->done = true;
  entry->error = error;
  state.requests.remove(entry);
  state.answered.notify_all();
}

result<uint64_t> MapFetcher::extend(InodeId ino, uint64_t first, uint64_t count) {
  for (int fruitless = 0; fruitless < kFruitlessMax; ++fruitless) {
    if (const uint64_t end = cache().known_end(ino, first); end > first) return end;
    const auto entry = request(ino, first, count);
    if (!entry) continue;
    std::unique_lock lock(state_->mutex);
    TRY(wait_interruptibly(state_->answered, lock, [&] { return entry->done; }));
    if (entry->error) return failure(entry->error->in(fmt::format("map of inode {}", ino)));
  }
  return failure(
      Errc::unavailable,
      fmt::format("map of inode {}: it changed during each of {} requests", ino, kFruitlessMax));
}

result<std::vector<MappedBlock>> MapFetcher::blocks(InodeId ino, uint64_t first, uint64_t count,
                                                    uint64_t ahead) {
  for (int fruitless = 0; fruitless < kFruitlessMax; ++fruitless) {
    auto known = cache().lookup(ino, first, count);
    if (known.size() == count) return known;
    for (uint64_t at = first + known.size(); at < first + count;) {
      TRY(at, extend(ino, at, std::max(kMapWindowBlocks, first + count - at + ahead)));
    }
  }
  return failure(Errc::unavailable, fmt::format("map of inode {}: it keeps changing", ino));
}

void MapFetcher::prefetch_with_lease(InodeId ino, std::function<bool()> held) {
  request(ino, 0, kMapWindowBlocks, std::move(held));
}

void MapFetcher::prefetch(InodeId ino, uint64_t first) { request(ino, first, kMapWindowBlocks); }

}  // namespace datacloud
