// Changes that can never be committed, or that a program has been told are lost: dropped, counted,
// and told.
//
// They are dropped as a whole, never in part: the file then is what the daemon has, and nothing
// that was based on another state is put on top of it. That includes pages of mappings which the
// kernel still keeps: until it has dropped them, what it writes back is thrown away.
#include <cerrno>

#include "common/base/log.h"
#include "common/base/out_of_space.h"
#include "fs/file/file_io.h"

namespace datacloud {
namespace {

constexpr const char* kOvertaken = "another mount has changed the file meanwhile";
constexpr const char* kShutDown = "the mount was shut down";
constexpr const char* kUndone = "its machine has failed before they were durable";
constexpr auto kPagesPatience = seconds(5);  // for the kernel to drop its pages

}  // namespace

// The caller holds the inode's mutex. False: there was nothing.
bool FileIo::drop_changes(Inode& inode) {
  // Blocks that only move into stripes are stored.
  bool had = inode.pending.any() || inode.dirty.size() > inode.resealed.size();
  for (auto& [block, buffer] : inode.dirty) budget_.remove(buffer->size());
  inode.dirty.clear();
  inode.resealed.clear();
  forget_records(inode);
  inode.dirty_bytes = 0;
  inode.flushing.clear();
  inode.pending = {};
  for (auto& [number, unit] : inode.units) {
    had = had || !(unit.dropped || unit.no_news);
    unit.dropped = true;
  }
  if (inode.clean()) {
    std::lock_guard own_lock(mutex_);
    dirty_.erase(inode.ino);
  }
  return had;
}

// Another mount has changed the file while this one had no lease on it. The caller holds the
// inode's mutex; its attributes are the daemon's or known to be stale.
void FileIo::overtaken(const InodePtr& inode) {
  const bool had = drop_changes(*inode);
  if (had) note_loss(*inode, kOvertaken);
  inode->pages_told = had;
  inode->unsure.clear();
  d_.reader.invalidate(inode->ino);
  drop_pages(inode);
  inode->changed.notify_all();
}

void FileIo::drop_everything() {
  for (const auto& inode : dirty_inodes()) {
    {
      std::lock_guard lock(inode->mutex);
      if (drop_changes(*inode)) note_loss(*inode, kShutDown);
      inode->changed.notify_all();
    }
    d_.metadata.table().release_if_unused(inode);
  }
}

void FileIo::commit_lost(const InodePtr& inode, uint64_t change_id) {
  std::lock_guard lock(inode->mutex);
  if (inode->stored.change_id != change_id) return;  // overtaken before, or by a later one
  drop_changes(*inode);
  note_loss(*inode, kUndone);
  inode->pages_told = true;
  inode->attr_stale = true;
  d_.reader.invalidate(inode->ino);
  drop_pages(inode);
  inode->changed.notify_all();
}

void FileIo::drop_pages(const InodePtr& inode) {
  if (!d_.drop_pages) return;
  ++inode->stale_pages;
  d_.drop_pages(inode);
}

void FileIo::pages_dropped(const InodePtr& inode) {
  std::lock_guard lock(inode->mutex);
  --inode->stale_pages;
  inode->changed.notify_all();
}

// The kernel writes back a page of a mapping: of the overtaken state, until it has dropped them
// all. The caller holds the inode's mutex.
bool FileIo::is_overtaken_page(Inode& inode) {
  if (inode.stale_pages == 0) return false;
  if (!inode.pages_told) note_loss(inode, kOvertaken);
  inode.pages_told = true;
  return true;
}

void FileIo::note_loss(Inode& inode, const std::string& why) {
  ++inode.losses;
  inode.loss_errno = EIO;
  ++data_losses_;
  spdlog::critical(
      "unwritten data of inode {} are lost: the daemon was away, and {}; fsync and close of the "
      "file report it",
      inode.ino, why);
}

// `telling_once`: the handle is not told of the same loss again. Whoever is told sees what the file
// is now.
result<void> FileIo::check_lost(FileHandle& handle, bool telling_once) {
  Inode& inode = *handle.inode;
  int error = 0;
  {
    std::scoped_lock lock(handle.mutex, inode.mutex);
    if (handle.losses_seen == inode.losses) return success();
    if (telling_once) handle.losses_seen = inode.losses;
    error = inode.loss_errno;
  }
  {
    std::unique_lock lock(inode.mutex);
    inode.changed.wait_for(lock, kPagesPatience, [&] { return inode.stale_pages == 0; });
  }
  return failure(Error::posix(error, "unwritten data of inode " + std::to_string(inode.ino) +
                                         " could not be stored and was given up"));
}

// The program is about to be told the outcome. Data for which there is no space ends with that;
// should it have been stored since, the outcome is a better one.
result<void> FileIo::told(const InodePtr& inode, bool durable, result<void> outcome, Into into) {
  while (!outcome && is_out_of_space(outcome.error()) &&
         !give_up(inode, outcome.error().errno_value())) {
    outcome = flush(inode, durable, into);
  }
  return outcome;
}

result<void> FileIo::fsync(FileHandle& handle) {
  constexpr Into kInto = Into::records_if_little;
  auto done = told(handle.inode, true, flush(handle.inode, true, kInto), kInto);
  auto lost = check_lost(handle, true);
  return done ? lost : done;
}

void FileIo::discard(const InodePtr& inode) {
  {
    std::lock_guard lock(inode->mutex);
    const bool had = drop_changes(*inode);
    if (had && inode->opens > 0) {
      note_loss(*inode, "the file is gone");
      inode->pages_told = true;
      drop_pages(inode);
    }
    inode->changed.notify_all();
  }
  d_.metadata.table().release_if_unused(inode);
}

// No unit of the inode is made meanwhile (flush_mutex), and none is under way: the daemon's answer
// is then what the file is without the changes.
bool FileIo::give_up(const InodePtr& inode, int error) {
  std::unique_lock flush_lock(inode->flush_mutex);
  {
    std::unique_lock lock(inode->mutex);
    inode->changed.wait(lock, [&] { return inode->units.empty(); });
    if (!inode->has_changes()) return false;
  }
  pb::Request request;
  request.mutable_lease()->set_ino(inode->ino);
  request.mutable_lease()->set_mode(pb::LEASE_READ);
  const auto answer = d_.metadata.call(std::move(request));
  {
    std::lock_guard lock(inode->mutex);
    ++inode->losses;
    inode->loss_errno = error;
    inode->failures_in_a_row = 0;
    inode->retry_at = {};
    drop_changes(*inode);
    inode->changed.notify_all();
    if (answer) {
      const pb::Inode& committed = answer.value().reply.attr().inode();
      inode->attr.set_size(committed.size());
      set_mtime(inode->attr, mtime_of(committed));
      set_ctime(inode->attr, ctime_of(committed));
    } else {
      inode->attr_known = false;  // asked for before anything else is done with the file
    }
  }
  flush_lock.unlock();
  d_.forget_pages(inode->ino);
  d_.metadata.table().release_if_unused(inode);
  return true;
}

}  // namespace datacloud
