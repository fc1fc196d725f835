// The table of fetches under way, and their start by stripe.
#include "fs/read/block_fetcher.h"

#include "common/crypto/block_patches.h"

namespace datacloud {

BlockFetcher::BlockFetcher(BlockCache& cache, StripeReader& stripes, const BlockSealer* sealer,
                           uint64_t readahead_bytes_max)
    : cache_(cache),
      stripes_(stripes),
      sealer_(sealer),
      readahead_bytes_max_(readahead_bytes_max) {}

BlockFetcher::~BlockFetcher() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return under_way_.empty(); });
}

bool BlockFetcher::present(InodeId ino, const Place& p) {
  {
    std::lock_guard lock(mutex_);
    if (under_way_.count({ino, p.block, p.at.newest()})) return true;
  }
  return cache_.get(ino, p.block, p.at.newest()) != nullptr;
}

BlockFetcher::Got BlockFetcher::find_or_start(InodeId ino, const Place& p, uint64_t ahead_bytes,
                                              std::vector<Started>& started) {
  if (auto plain = cache_.get(ino, p.block, p.at.newest())) return {std::move(plain), nullptr};
  std::lock_guard lock(mutex_);
  const Key key{ino, p.block, p.at.newest()};
  if (const auto it = under_way_.find(key); it != under_way_.end()) return {nullptr, it->second};
  // A fetch may have ended between the two looks; it fills the cache before it leaves the table.
  if (auto plain = cache_.get(ino, p.block, p.at.newest())) return {std::move(plain), nullptr};
  auto fetch = std::make_shared<Fetch>();
  fetch->ahead_bytes_ = ahead_bytes;
  ahead_bytes_ += ahead_bytes;
  under_way_.emplace(key, fetch);
  started.push_back({p, fetch});
  return {nullptr, fetch};
}

std::vector<BlockFetcher::Got> BlockFetcher::get(InodeId ino, uint32_t realm,
                                                 const std::vector<Place>& places,
                                                 uint32_t block_bytes) {
  std::vector<Got> out;
  std::vector<Started> started;
  out.reserve(places.size());
  for (const Place& p : places) out.push_back(find_or_start(ino, p, 0, started));
  launch({ino, realm, block_bytes}, std::move(started));
  return out;
}

size_t BlockFetcher::read_ahead(InodeId ino, uint32_t realm, const std::vector<Place>& places,
                                uint32_t block_bytes) {
  std::vector<Started> started;
  size_t next = 0;
  for (; next < places.size(); ++next) {
    if (present(ino, places[next])) continue;
    if (ahead_bytes_ + block_bytes > readahead_bytes_max_) break;
    find_or_start(ino, places[next], block_bytes, started);
  }
  launch({ino, realm, block_bytes}, std::move(started));
  return next;
}

// The bytes of a block that is in no stripe, without its patches.
result<Bytes> BlockFetcher::open_whole(const Source& file, const Place& p) const {
  if (!p.at.records || sealer_ == nullptr)
    return failure(Errc::unsupported, "bytes in the metadata cannot be opened here");
  return sealer_->open({file.realm, file.ino, p.block, p.at.version, 0},
                       as_bytes(p.at.records->block));
}

// All patches or none: without one of them the block is what it never was.
result<Bytes> BlockFetcher::with_patches(const Source& file, const Place& p,
                                         result<Bytes> base) const {
  if (!base || !p.at.records || p.at.records->patches.empty()) return base;
  if (sealer_ == nullptr)
    return failure(Errc::unsupported, "changes in the metadata cannot be opened here");
  std::vector<VersionedPatch> patches;
  ContentVersion state = p.at.version;
  for (const auto& [version, sealed] : p.at.records->patches) {
    TRY(auto patch,
        sealer_->open_patch({file.realm, file.ino, p.block, version, 0}, state, as_bytes(sealed)));
    patches.push_back({version, std::move(patch)});
    state = version;
  }
  return patched_block(std::move(base).value(), p.at.version, patches,
                       static_cast<uint32_t>(patches.size()), file.block_bytes);
}

void BlockFetcher::launch(const Source& file, std::vector<Started> started) {
  for (size_t from = 0; from < started.size();) {
    const auto stripe = started[from].place.at.stripe;
    if (started[from].place.at.in_records()) {
      const auto& [place, fetch] = started[from++];
      finish({file.ino, place.block, place.at.newest()}, fetch,
             with_patches(file, place, open_whole(file, place)));
      continue;
    }
    std::vector<StripeReader::Want> wants;
    auto group = std::make_shared<std::vector<Started>>();
    for (; from < started.size() && started[from].place.at.stripe == stripe; ++from) {
      const Place& p = started[from].place;
      StripeReader::Want want;
      const SealedPlace& sealed = p.at.sealed;
      want.address = sealed.ino == 0
                         ? BlockAddress{file.realm, file.ino, p.block, p.at.version, 0}
                         : BlockAddress{sealed.realm, sealed.ino, sealed.block, p.at.version, 0};
      want.slot = p.at.slot;
      wants.push_back(want);
      group->push_back(std::move(started[from]));
    }
    const auto not_found = stripe->missing_confirmed ? StripeReader::NotFound::erasure
                                                     : StripeReader::NotFound::refetch;
    stripes_.read_each(stripe->record, std::move(wants), not_found,
                       [this, file, group](size_t i, result<Bytes> r) {
                         const Started& s = (*group)[i];
                         finish({file.ino, s.place.block, s.place.at.newest()}, s.fetch,
                                with_patches(file, s.place, std::move(r)));
                       });
  }
}

void BlockFetcher::finish(const Key& key, const FetchPtr& fetch, result<Bytes> r) {
  if (r) {
    auto plain = std::make_shared<const Bytes>(std::move(r).value());
    cache_.put(key.ino, key.block, key.version, plain);
    fetch->value_ = std::move(plain);
  } else {
    fetch->value_ = result<SharedBytes>(failure(r.error()));
  }
  ahead_bytes_ -= fetch->ahead_bytes_;
  {
    // Leaves the table before anybody learns of a failure, so that a retry is a new fetch.
    std::lock_guard lock(mutex_);
    under_way_.erase(key);
    if (under_way_.empty()) idle_.notify_all();
  }
  fetch->state_ |= Fetch::kDone;
  fetch->state_.notify_all();
}

}  // namespace datacloud
