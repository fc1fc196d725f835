// Known listings of directories, and the inodes that stay for their sake.
#include "fs/file/inode_table.h"

namespace datacloud {

size_t InodeTable::known() const {
  std::lock_guard lock(mutex_);
  return known_;
}

void InodeTable::unlist(const std::vector<InodeId>& inodes) {
  known_ -= inodes.size();
  for (const InodeId ino : inodes) {
    const auto it = inodes_.find(ino);
    if (it == inodes_.end()) continue;
    std::lock_guard lock(it->second->mutex);
    if (it->second->listed > 0) --it->second->listed;
    candidates_.insert(ino);
  }
}

void InodeTable::drop_listing(Inode& directory) {
  std::unique_ptr<KnownListing> listing;
  {
    std::lock_guard lock(directory.mutex);
    listing = std::move(directory.listing);
    directory.misses = 0;
    if (listing) listings_.erase(directory.listing_order);
  }
  if (!listing) return;
  --known_;
  unlist(listing->inodes());
}

void InodeTable::learn(InodeId ino, uint64_t from, const pb::ReadDirReply& page, uint64_t session,
                       uint64_t ticket) {
  if (page.lease() < pb::LEASE_READ) return;
  std::lock_guard lock(mutex_);
  const auto it = inodes_.find(ino);
  if (it == inodes_.end()) return;
  const InodePtr directory = it->second;
  std::vector<InodeId> added;
  bool renew = false, too_large = false;
  {
    std::lock_guard inode_lock(directory->mutex);
    if (directory->lease_session != session || directory->lease < pb::LEASE_READ) return;
    if (directory->too_large || ticket < directory->names_changed) return;
    const auto& listing = directory->listing;
    renew = listing && (listing->session() != session || from == 0);
  }
  // All of its inodes are listed anew before they could be dropped: the mutex is held.
  if (renew) drop_listing(*directory);
  {
    std::lock_guard inode_lock(directory->mutex);
    if (!directory->listing) {
      if (from != 0) return;
      directory->listing = std::make_unique<KnownListing>(session);
      directory->listing_order = ++listing_order_;
      listings_[listing_order_] = ino;
      ++known_;
    }
    directory->listing->add(from, page, added);
    too_large = directory->listing->size() > known_max_ / 2;
    directory->too_large = directory->too_large || too_large;
  }
  known_ += added.size();
  for (const InodeId child : added) {
    const auto known = inodes_.find(child);
    if (known == inodes_.end()) continue;
    std::lock_guard inode_lock(known->second->mutex);
    ++known->second->listed;
  }
  if (too_large) drop_listing(*directory);
  while (known_ > known_max_ && !listings_.empty()) {
    const auto oldest = inodes_.find(listings_.begin()->second);
    if (oldest == inodes_.end() || oldest->second == directory) break;
    drop_listing(*oldest->second);
  }
}

void InodeTable::forget_names(InodeId ino, const std::vector<std::string>& names) {
  std::lock_guard lock(mutex_);
  const auto it = inodes_.find(ino);
  if (it == inodes_.end()) return;
  std::vector<InodeId> dropped;
  bool worth = !names.empty();
  {
    std::lock_guard inode_lock(it->second->mutex);
    it->second->names_changed = next_ticket_;
    if (!it->second->listing) return;
    for (const auto& name : names) worth = it->second->listing->forget(name, dropped) && worth;
  }
  unlist(dropped);
  if (!worth) drop_listing(*it->second);
}

}  // namespace datacloud
