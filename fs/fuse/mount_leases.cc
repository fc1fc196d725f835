// Recalls, resumption and loss of the session.
//
// A recall of file data: flush what is dirty, make the kernel forget pages and attributes, and
// give the lease up only when no read or write relied on it since the kernel was told. Reads and
// writes go on meanwhile under the old lease: making them wait would stop the very requests for
// which the kernel holds pages that it must drop. See docs/design.md, "Coherence between mounts".
#include <sys/stat.h>

#include <future>
#include <thread>

#include "common/base/log.h"
#include "common/base/out_of_space.h"
#include "fs/fuse/mount.h"

namespace datacloud {
namespace {

constexpr int kRecallRoundsMax = 20;  // then readers and writers are made to wait
constexpr int kFullRoundsMax = 3;     // a second each, for space to come back
constexpr auto kKernelPatience = milliseconds(100);
constexpr auto kUsersPatience = seconds(5);

bool is_directory(Inode& inode) {
  std::lock_guard lock(inode.mutex);
  return S_ISDIR(inode.attr.mode());
}

pb::Request recall_done(uint64_t id) {
  pb::Request request;
  request.mutable_recall_done()->set_id(id);
  return request;
}

}  // namespace

void Mount::on_push(const pb::Push& push) {
  if (!push.has_recall()) return;
  if (push.recall().locks()) {
    if (locks_) locks_->recalled(push.recall());
    return;
  }
  recalls_->post([this, recall = push.recall()] { handle_recall(recall); });
}

void Mount::handle_recall(const pb::Recall& recall) {
  const InodePtr inode = table_.find(recall.ino());
  if (!inode) {
    client_->call(recall_done(recall.id()), [](result<pb::Reply>) {});
    return;
  }
  if (recall.names_size()) {
    table_.forget_names(recall.ino(), {recall.names().begin(), recall.names().end()});
    forget_names(inode);
  } else {
    if (recall.mode() == pb::LEASE_NONE) table_.forget_names(recall.ino(), {});
    reduce_lease(inode, recall.mode());
    // Without a lease on its directory no name is told any more, and the kernel may have names, and
    // names it knows to be absent. So it is after a restart of the daemon.
    if (recall.mode() == pb::LEASE_NONE && is_directory(*inode)) {
      forget_names(inode);
    }
    // Before the answer: the daemon may free what nobody holds.
    if (recall.mode() == pb::LEASE_NONE) metadata_->hold_open(inode);
  }
  client_->call(recall_done(recall.id()), [](result<pb::Reply>) {});
  if (recall.names_size() || recall.mode() != pb::LEASE_NONE) return;
  table_.release_open_mark(inode);
}

// Of a directory whose entries others change.
void Mount::forget_names(const InodePtr& directory) {
  {
    std::lock_guard lock(directory->mutex);
    ++directory->entry_changes;
    directory->attr_stale = true;  // its times and link count changed with the entries
  }
  kernel_.forget_entries();
  kernel_.forget_attributes(directory->ino);
}

// Asks the kernel to drop its pages and waits a little. It may be stuck behind a page that one of
// our own writers holds locked while it waits for the lease that is being recalled: the pages are
// then dropped as soon as that writer is done. False when that is still to come.
bool Mount::drop_kernel_pages(InodeId ino) {
  auto dropped =
      std::async(std::launch::async, [this, ino] { kernel_.forget_pages_and_attributes(ino); });
  if (dropped.wait_for(kKernelPatience) == std::future_status::ready) return true;
  std::lock_guard lock(mutex_);
  std::erase_if(kernel_calls_, [](const auto& call) {
    return call.wait_for(seconds(0)) == std::future_status::ready;
  });
  kernel_calls_.push_back(std::move(dropped));
  return false;
}

void Mount::reduce_lease(const InodePtr& inode, pb::LeaseMode mode) {
  {
    std::lock_guard lock(inode->mutex);
    if (inode->lease <= mode) return;
    inode->recalling = true;
  }
  for (int round = 0;; ++round) {
    if (auto flushed = io_->flush(inode, false); !flushed) {
      if (is_out_of_space(flushed.error()) && round >= kFullRoundsMax) {
        spdlog::critical(
            "unwritten data of inode {} is given up: there is no space, and another mount wants "
            "the "
            "file",
            inode->ino);
        (void)io_->give_up(inode, flushed.error().errno_value());
        continue;
      }
      // The other mount waits for data that cannot be stored now; the lease's end bounds it.
      std::this_thread::sleep_for(seconds(1));
      if (round < kRecallRoundsMax && client_->connected()) continue;
    }
    {
      std::lock_guard lock(inode->mutex);
      inode->served_while_recalled = 0;
    }
    const bool dropped = mode != pb::LEASE_NONE || drop_kernel_pages(inode->ino);
    std::unique_lock lock(inode->mutex);
    inode->changed.wait_for(lock, kUsersPatience, [&] { return inode->users == 0; });
    const bool idle = inode->clean() && inode->users == 0;
    const bool quiet = mode != pb::LEASE_NONE || inode->served_while_recalled == 0;
    // With readers that never pause, or a kernel that waits for us, the lease goes first and the
    // pages right after.
    const bool forced = !dropped || round >= kRecallRoundsMax;
    if (idle && (quiet || forced)) {
      inode->lease = std::min(inode->lease, mode);
      inode->recalling = false;
      if (mode != pb::LEASE_NONE) return;
      inode->attr_stale = true;
      reader_->invalidate(inode->ino);
      lock.unlock();
      if (!quiet && dropped) (void)drop_kernel_pages(inode->ino);
      return;
    }
    lock.unlock();
    if (round > kRecallRoundsMax) std::this_thread::sleep_for(milliseconds(10));
  }
}

// On the RPC's I/O thread: must not block.
void Mount::present_leases(pb::HelloRequest& hello) {
  for (const auto& inode : table_.all()) {
    std::lock_guard lock(inode->mutex);
    if (inode->lease == pb::LEASE_NONE && !inode->open_registered) continue;
    auto* held = hello.add_leases();
    held->set_ino(inode->ino);
    held->set_mode(inode->lease);
    held->set_open(inode->open_registered);
  }
  if (locks_) locks_->present(hello);
}

result<void> Mount::adopt_features(const pb::Features& features) {
  FeatureSet set;
  for (const auto& feature : features.features()) {
    TRY(set.add_named(feature.name(), feature.version()));
  }
  features_ = set;
  return success();
}

void Mount::on_session(const pb::HelloReply& hello) {
  if (!ids_) return;  // the first hello
  if (auto known = adopt_features(hello.features()); !known) {
    spdlog::error("{}", known.error().message());
  }
  apply_duties(hello.cloud().sites());
  if (hello.ids_revoked() || !hello.resumed()) ids_->revoked();
  const auto unlocked = locks_->session_begins(!hello.resumed());
  if (hello.resumed()) return;
  if (!unlocked.empty())
    spdlog::error(
        "locks of {} files are lost with this mount's session; programs that hold them get EIO",
        unlocked.size());
  recalls_->post([this, unlocked] {
    session_lost();
    for (const InodeId ino : unlocked) kernel_.forget_pages_and_attributes(ino);
  });
}

// Leases of the old session are void already (they carry its id). What is open or has changes is
// asked for at once: that drops what other mounts' changes have overtaken (FileIo::overtaken). The
// kernel may have kept pages of all the others.
void Mount::session_lost() {
  spdlog::error("the daemon has ended this mount's session; the mount requests its leases again");
  kernel_.forget_entries();
  for (const auto& inode : table_.all()) {
    bool changes = false, open = false;
    {
      std::lock_guard lock(inode->mutex);
      changes = !inode->clean();
      open = inode->opens > 0;
    }
    if (!changes && !open) {
      reader_->invalidate(inode->ino);
      kernel_.forget_pages_and_attributes(inode->ino);
      continue;
    }
    kernel_.forget_attributes(inode->ino);
    const auto mode = changes ? pb::LEASE_WRITE : pb::LEASE_READ;
    const auto held = metadata_->ensure_lease(inode, mode, open);
    if (!held && held.error().code() == std::errc::no_such_file_or_directory) {
      kernel_.forget_pages_and_attributes(inode->ino);
      io_->discard(inode);
    }
  }
}

}  // namespace datacloud
