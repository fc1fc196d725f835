// Lookup counts, merging of attributes, and the release of leases nobody needs.
//
// Lock order: the table's mutex before an inode's.
#include "fs/file/inode_table.h"

#include <sys/stat.h>

#include <algorithm>

#include "common/proto/file_time.h"

namespace datacloud {
namespace {

// Under a WRITE lease with uncommitted (or racing) changes the local size and times win. True: the
// news are of a state that overtakes what is here.
bool merge(Inode& inode, const pb::Inode& news, uint64_t sequence, uint64_t session) {
  const bool same_session = inode.attr_session == session;
  if (inode.attr_known && same_session && sequence < inode.attr_sequence) return false;
  // While the session lasts, leases keep others from changing what is dirty or cached here.
  const bool overtaken = inode.attr_known && S_ISREG(news.mode()) &&
                         !(inode.clean() && same_session) && !inode.knows(news.change_id());
  const bool local_truth =
      inode.attr_known && !overtaken &&
      ((inode.lease == pb::LEASE_WRITE && inode.lease_session == session) || !inode.clean());
  const uint64_t size = inode.attr.size();
  const FileTime mtime = mtime_of(inode.attr), ctime = ctime_of(inode.attr);
  inode.attr = news;
  inode.attr_sequence = sequence;
  inode.attr_session = session;
  inode.attr_known = true;
  inode.attr_stale = false;
  inode.stored = {news.size(), news.blocks_mapped(), news.change_id(), news.blocks_reserved()};
  if (!local_truth) return overtaken;
  inode.attr.set_size(size);
  bool times = inode.pending.times;
  for (const auto& [number, unit] : inode.units) times = times || unit.carries.times;
  if (times) {
    set_mtime(inode.attr, mtime);
    set_ctime(inode.attr, std::max(ctime, ctime_of(news)));
  }
  return false;
}

}  // namespace

uint64_t InodeTable::begin_request() {
  std::lock_guard lock(mutex_);
  const uint64_t ticket = next_ticket_++;
  requests_[ticket] = 1;
  return ticket;
}

void InodeTable::end_request(uint64_t ticket) {
  std::lock_guard lock(mutex_);
  requests_.erase(ticket);
  // Answered releases matter only to requests begun before their answer.
  if (releases_.size() < 1024) return;
  const uint64_t oldest = requests_.empty() ? next_ticket_ : requests_.begin()->first;
  std::erase_if(releases_, [&](const auto& r) { return r.second.end_ticket <= oldest; });
}

InodePtr InodeTable::find(InodeId ino) const {
  std::lock_guard lock(mutex_);
  const auto it = inodes_.find(ino);
  return it == inodes_.end() ? nullptr : it->second;
}

InodePtr InodeTable::find_or_create(InodeId ino) {
  auto& slot = inodes_[ino];
  if (!slot) slot = std::make_shared<Inode>(ino);
  return slot;
}

bool InodeTable::grant_allowed(InodeId ino, uint64_t ticket) {
  const auto it = releases_.find(ino);
  if (it == releases_.end()) return true;
  if (it->second.sent) return ticket >= it->second.end_ticket;
  releases_.erase(it);  // wanted again: not given back
  return true;
}

InodePtr InodeTable::apply(const pb::Inode& news, pb::LeaseMode lease, bool open, uint64_t sequence,
                           uint64_t session, uint64_t ticket) {
  std::lock_guard lock(mutex_);
  InodePtr inode = find_or_create(news.ino());
  std::lock_guard inode_lock(inode->mutex);
  if (merge(*inode, news, sequence, session) && overtaken_) overtaken_(inode);
  if (!grant_allowed(news.ino(), ticket)) return inode;
  if (inode->lease_session != session) {
    inode->lease = pb::LEASE_NONE;
    inode->open_registered = false;
  }
  inode->lease_session = session;
  inode->lease = std::max(inode->lease, lease);
  inode->open_registered = inode->open_registered || open;
  return inode;
}

void InodeTable::apply_parent_lease(InodeId ino, pb::LeaseMode lease, uint64_t session,
                                    uint64_t ticket) {
  std::lock_guard lock(mutex_);
  const auto it = inodes_.find(ino);
  if (it == inodes_.end() || !grant_allowed(ino, ticket)) return;
  std::lock_guard inode_lock(it->second->mutex);
  // The reply carries no attributes of the directory: they stay unknown until asked for.
  if (it->second->lease_session != session) it->second->lease = pb::LEASE_NONE;
  it->second->lease_session = session;
  it->second->lease = std::max(it->second->lease, lease);
}

void InodeTable::on_overtaken(Overtaken overtaken) {
  std::lock_guard lock(mutex_);
  overtaken_ = std::move(overtaken);
}

void InodeTable::mark_stale(InodeId ino, uint64_t sequence, uint64_t session) {
  std::lock_guard lock(mutex_);
  const auto it = inodes_.find(ino);
  if (it == inodes_.end()) return;
  std::lock_guard inode_lock(it->second->mutex);
  it->second->attr_stale = true;
  ++it->second->entry_changes;
  if (it->second->attr_session == session)
    it->second->attr_sequence = std::max(it->second->attr_sequence, sequence);
}

void InodeTable::forget_sequences() {
  std::lock_guard lock(mutex_);
  for (const auto& [ino, inode] : inodes_) {
    std::lock_guard inode_lock(inode->mutex);
    inode->attr_sequence = 0;
  }
}

void InodeTable::add_lookup(const InodePtr& inode) {
  std::lock_guard lock(mutex_);
  auto& slot = inodes_[inode->ino];
  if (!slot) slot = inode;
  std::lock_guard inode_lock(slot->mutex);
  ++slot->lookups;
}

void InodeTable::forget(InodeId ino, uint64_t count) {
  std::lock_guard lock(mutex_);
  const auto it = inodes_.find(ino);
  if (it == inodes_.end()) return;
  std::lock_guard inode_lock(it->second->mutex);
  it->second->lookups -= std::min(it->second->lookups, count);
  candidates_.insert(ino);
}

void InodeTable::release_if_unused(const InodePtr& inode) {
  std::lock_guard lock(mutex_);
  candidates_.insert(inode->ino);
}

bool InodeTable::unused(const Inode& inode) const {
  if (inode.ino == root_ || inode.lookups || inode.opens || inode.users || inode.listed)
    return false;
  const bool gone = inode.attr_known && inode.attr.nlink() == 0;
  return inode.clean() || (gone && inode.units.empty());
}

// Only the table can hand out an inode, so one that nobody else holds now is held by nobody.
std::vector<InodeId> InodeTable::sweep() {
  std::lock_guard lock(mutex_);
  std::vector<InodeId> dropped;
  std::vector<InodePtr> listed;  // perhaps with a listing
  for (auto candidate = candidates_.begin(); candidate != candidates_.end();) {
    const auto it = inodes_.find(*candidate);
    if (it == inodes_.end()) {
      candidate = candidates_.erase(candidate);
      continue;
    }
    std::unique_lock inode_lock(it->second->mutex);
    const bool is_unused = unused(*it->second);
    const bool held = it->second.use_count() > 1;
    inode_lock.unlock();
    if (is_unused && held) {
      ++candidate;  // somebody is about to finish with it: next time
      continue;
    }
    if (is_unused) {
      dropped.push_back(it->first);
      queue_release(it->first);
      listed.push_back(std::move(it->second));
      inodes_.erase(it);
    } else if (give_up_if_gone(*it->second)) {
      dropped.push_back(it->first);
      listed.push_back(it->second);
    }
    candidate = candidates_.erase(candidate);
  }
  // Which makes more candidates.
  for (const auto& inode : listed) drop_listing(*inode);
  return dropped;
}

bool InodeTable::give_up_if_gone(Inode& inode) {
  std::lock_guard lock(inode.mutex);
  if (!inode.gone() || (inode.lease == pb::LEASE_NONE && !inode.open_registered)) return false;
  inode.lease = pb::LEASE_NONE;
  inode.open_registered = false;
  inode.attr_stale = true;
  queue_release(inode.ino);
  return true;
}

void InodeTable::release_open_mark(const InodePtr& inode) {
  std::lock_guard lock(mutex_);
  {
    std::lock_guard inode_lock(inode->mutex);
    if (inode->opens || inode->lease != pb::LEASE_NONE || !inode->open_registered) return;
    inode->open_registered = false;
  }
  queue_release(inode->ino);
}

void InodeTable::give_back(InodeId ino) {
  std::lock_guard lock(mutex_);
  queue_release(ino);
}

void InodeTable::queue_release(InodeId ino) {
  releases_[ino] = Release{};
  queue_.push_back(ino);
}

std::vector<pb::HeldLease> InodeTable::take_releases(size_t count_max) {
  std::lock_guard lock(mutex_);
  std::vector<pb::HeldLease> out;
  while (!queue_.empty() && out.size() < count_max) {
    const InodeId ino = queue_.front();
    queue_.pop_front();
    const auto release = releases_.find(ino);
    if (release == releases_.end() || release->second.sent) continue;  // wanted again, or twice
    const auto it = inodes_.find(ino);
    if (it != inodes_.end()) {
      std::lock_guard inode_lock(it->second->mutex);
      if (it->second->lease != pb::LEASE_NONE || it->second->opens) {
        releases_.erase(release);
        continue;
      }
    }
    release->second.sent = true;
    pb::HeldLease held;
    held.set_ino(ino);
    out.push_back(held);
  }
  return out;
}

void InodeTable::released(const std::vector<pb::HeldLease>& leases) {
  std::lock_guard lock(mutex_);
  for (const auto& held : leases) {
    const auto it = releases_.find(held.ino());
    if (it != releases_.end()) it->second.end_ticket = next_ticket_;
  }
}

std::vector<InodePtr> InodeTable::all() const {
  std::lock_guard lock(mutex_);
  std::vector<InodePtr> out;
  out.reserve(inodes_.size());
  for (const auto& [ino, inode] : inodes_) out.push_back(inode);
  return out;
}

size_t InodeTable::size() const {
  std::lock_guard lock(mutex_);
  return inodes_.size();
}

}  // namespace datacloud
