// Reading blocks of a file: map, then blocks, then, when that fails, once more over a fresh map.
//
// A failed block is read again only when that can help: the refetched map names another place, or
// it confirms the place, so that a shard that was not found is known to be lost, or a site has come
// back that was away when the read began (another may have gone meanwhile).
#include "fs/read/block_reader.h"

#include <fmt/format.h>

#include <algorithm>

#include "fs/read/block_fetcher.h"
#include "fs/read/map_fetcher.h"

namespace datacloud {
namespace {

constexpr int kRoundsMax = 5;                      // reads of one block, over maps that changed
constexpr uint64_t kSparseWindowMax = 1ull << 31;  // blocks one MapRequest looks through
constexpr seconds kLookAtSites{1};                 // longest look, and shortest time between two

Error lost_block(InodeId ino, uint64_t block) {
  return Error(Errc::corrupt,
               fmt::format("inode {} block {}: fsck found that its data are lost; write it again, "
                           "or restore the file from a copy",
                           ino, block));
}

}  // namespace

struct BlockReader::Impl {
  explicit Impl(const Dependencies& d)
      : cache(d.cache),
        maps(d.client),
        fetcher(d.cache, d.stripes, d.sealer, d.config.cache_bytes_max / 4),
        sites(d.sites),
        config(d.config) {}

  struct Failed {
    BlockFetcher::Place place;
    size_t index;  // in the answer
    Error error;
  };

  void collect(const std::vector<BlockFetcher::Place>&, const std::vector<BlockFetcher::Got>&,
               const std::vector<size_t>& index, std::vector<SharedBytes>& out,
               std::vector<Failed>& failed);
  result<void> again(const FileRef&, std::vector<Failed>&, std::vector<SharedBytes>& out,
                     std::vector<Site*>& away);
  std::vector<Site*> sites_away();
  bool any_came_back(const std::vector<Site*>& away);
  uint64_t read_ahead(const FileRef&, const BlockRange&);

  BlockCache& cache;
  MapFetcher maps;
  BlockFetcher fetcher;
  SiteSet& sites;
  const MountConfig config;
  std::mutex look_mutex;
  MonotonicTime looked{};
};

BlockReader::BlockReader(Dependencies deps) : impl_(std::make_unique<Impl>(deps)) {}
BlockReader::~BlockReader() = default;

result<std::vector<SharedBytes>> BlockReader::read(const FileRef& file, uint64_t first,
                                                   uint32_t count) {
  std::vector<BlockRange> nothing;
  return read(file, first, count, nothing);
}

result<std::vector<SharedBytes>> BlockReader::read(const FileRef& file, uint64_t first,
                                                   uint32_t count, std::vector<BlockRange>& ahead) {
  TRY(const auto map, impl_->maps.blocks(file.ino, first, count, 0));
  std::vector<Site*> away = impl_->sites_away();
  std::vector<SharedBytes> out(count);
  std::vector<BlockFetcher::Place> places;
  std::vector<size_t> index;
  for (size_t i = 0; i < count; ++i) {
    if (!map[i].stripe) continue;
    if (map[i].lost()) return failure(lost_block(file.ino, first + i));
    places.push_back({first + i, map[i]});
    index.push_back(i);
  }
  const auto got = impl_->fetcher.get(file.ino, file.realm, places, file.block_bytes);
  // After the blocks that are waited for, so that these are asked for first.
  for (BlockRange& range : ahead) {
    const uint64_t started = impl_->read_ahead(file, range);
    range.first += started;
    range.count -= started;
  }
  std::erase_if(ahead, [](const BlockRange& range) { return range.count == 0; });
  std::vector<Impl::Failed> failed;
  impl_->collect(places, got, index, out, failed);
  for (int round = 1; !failed.empty() && round < kRoundsMax; ++round) {
    TRY(impl_->again(file, failed, out, away));
  }
  if (!failed.empty())
    return failure(failed.front().error.in(
        fmt::format("inode {} block {}", file.ino, failed.front().place.block)));
  return out;
}

void BlockReader::Impl::collect(const std::vector<BlockFetcher::Place>& places,
                                const std::vector<BlockFetcher::Got>& got,
                                const std::vector<size_t>& index, std::vector<SharedBytes>& out,
                                std::vector<Failed>& failed) {
  for (size_t i = 0; i < got.size(); ++i) {
    if (got[i].plain) {
      out[index[i]] = got[i].plain;
      continue;
    }
    const result<SharedBytes> r = got[i].fetch->wait();
    if (r)
      out[index[i]] = r.value();
    else
      failed.push_back({places[i], index[i], r.error()});
  }
}

// Refetches the map of the failed blocks and reads those again for which that may help; fails when
// it cannot help one of them.
result<void> BlockReader::Impl::again(const FileRef& file, std::vector<Failed>& failed,
                                      std::vector<SharedBytes>& out, std::vector<Site*>& away) {
  const uint64_t first = failed.front().place.block, end = failed.back().place.block + 1;
  const auto explain = [&](const Failed& f, const Error& e) {
    return failure(e.in(fmt::format("inode {} block {}", file.ino, f.place.block)));
  };
  maps.cache().forget(file.ino, first, end);
  auto map = maps.blocks(file.ino, first, end - first, 0);
  if (!map) return explain(failed.front(), failed.front().error.in(map.error().message()));

  const bool unavailable = std::any_of(
      failed.begin(), failed.end(), [](const Failed& f) { return f.error.is(Errc::unavailable); });
  const bool came_back = unavailable && any_came_back(away);
  if (came_back) away = sites_away();
  std::vector<BlockFetcher::Place> places;
  std::vector<size_t> index;
  for (const Failed& f : failed) {
    const MappedBlock& now = map.value()[f.place.block - first];
    if (!now.stripe) continue;  // meanwhile a hole
    if (now.lost()) return failure(lost_block(file.ino, f.place.block));
    const MappedBlock& before = f.place.at;
    // Equal records are one object, so this compares the whole layout.
    const bool same =
        now.stripe == before.stripe && now.slot == before.slot && now.newest() == before.newest();
    const bool retried = came_back && f.error.is(Errc::unavailable);
    if (same && !retried && !f.error.is(Errc::stale)) return explain(f, f.error);
    if (same && !retried) now.stripe->missing_confirmed = true;
    places.push_back({f.place.block, now});
    index.push_back(f.index);
  }
  failed.clear();
  collect(places, fetcher.get(file.ino, file.realm, places, file.block_bytes), index, out, failed);
  return success();
}

std::vector<Site*> BlockReader::Impl::sites_away() {
  std::vector<Site*> away;
  for (Site* site : sites.all())
    if (!site->up()) away.push_back(site);
  return away;
}

// The prober learns of a site's return a moment late: look now, for all failed reads together.
bool BlockReader::Impl::any_came_back(const std::vector<Site*>& away) {
  if (away.empty()) return false;
  const auto up = [](const Site* site) { return site->up(); };
  if (std::any_of(away.begin(), away.end(), up)) return true;
  {
    std::lock_guard lock(look_mutex);
    if (const auto now = monotonic_now();
        looked == MonotonicTime() || now - looked > kLookAtSites) {
      sites.check_all(kLookAtSites);
      looked = monotonic_now();
    }
  }
  return std::any_of(away.begin(), away.end(), up);
}

// How many of the blocks, from the first, are there or on their way then; holes and what lies
// beyond the end need no fetch.
uint64_t BlockReader::Impl::read_ahead(const FileRef& file, const BlockRange& range) {
  const uint64_t file_blocks = (file.size + file.block_bytes - 1) / file.block_bytes;
  const uint64_t end = std::min(range.end(), file_blocks);
  if (range.first >= end) return range.count;
  const auto map = maps.cache().lookup(file.ino, range.first, end - range.first);
  const uint64_t known_end = range.first + map.size();
  if (known_end < end) {
    // Read backward, what follows is known: the window that ends there is of more use.
    const bool backward = map.empty() && maps.cache().known_end(file.ino, end) > end;
    maps.prefetch(file.ino, backward ? end - std::min(end, kMapWindowBlocks) : known_end);
  }
  std::vector<BlockFetcher::Place> places;
  for (size_t i = 0; i < map.size(); ++i)
    if (map[i].stripe && !map[i].lost()) places.push_back({range.first + i, map[i]});
  const size_t started = fetcher.read_ahead(file.ino, file.realm, places, file.block_bytes);
  if (started < places.size()) return places[started].block - range.first;
  return known_end < end ? known_end - range.first : range.count;
}

void BlockReader::expect_read(InodeId ino, std::function<bool()> lease_held) {
  impl_->maps.prefetch_with_lease(ino, std::move(lease_held));
}

void BlockReader::committed(InodeId ino, const std::vector<pb::Run>& runs,
                            const std::vector<std::shared_ptr<const pb::Stripe>>& stripes,
                            const PlainBlocks& plain, const std::vector<pb::SealedPiece>& pieces) {
  impl_->maps.cache().committed(ino, runs, stripes, pieces);
  for (const auto& run : runs) {
    const uint64_t end = run.first_block() + run.count();
    for (auto it = plain.lower_bound(run.first_block()); it != plain.end() && it->first < end;
         ++it) {
      impl_->cache.put(ino, it->first, run.version() + (it->first - run.first_block()), it->second);
    }
  }
}

BlockReader::Stored BlockReader::stored(InodeId ino, uint64_t block) {
  Stored out;
  const auto known = impl_->maps.cache().lookup(ino, block, 1);
  if (known.empty()) return out;
  const MappedBlock& at = known.front();
  out.known = true;
  out.mapped = at.stripe && !at.lost();
  if (!out.mapped) return out;
  out.version = at.newest();
  if (at.records) {
    out.patches = static_cast<uint32_t>(at.records->patches.size());
    out.patch_bytes = at.records->bytes() - at.records->block.size();
  }
  out.plain = impl_->cache.get(ino, block, out.version);
  return out;
}

std::vector<InodeId> BlockReader::take_found() { return impl_->maps.cache().take_found(); }

std::vector<BlockMapCache::InRecords> BlockReader::in_records(InodeId ino, size_t count_max) {
  return impl_->maps.cache().in_records(ino, count_max);
}

void BlockReader::truncated(InodeId ino, uint64_t first_block) {
  impl_->maps.cache().truncated(ino, first_block);
}

void BlockReader::invalidate(InodeId ino) { impl_->maps.cache().invalidate(ino); }

result<uint64_t> BlockReader::next_mapped(const FileRef& file, uint64_t from, uint64_t end,
                                          bool mapped) {
  // A window without runs is followed by a larger one: sparse files can be huge.
  uint64_t window = kMapWindowBlocks;
  while (from < end) {
    TRY(impl_->maps.extend(file.ino, from, std::min(window, end - from)));
    const auto [found, known_end] = impl_->maps.cache().find(file.ino, from, end, mapped);
    if (found < known_end) return found;
    from = known_end;
    window = mapped ? std::min(window * 16, kSparseWindowMax) : kMapWindowBlocks;
  }
  return end;
}

}  // namespace datacloud
