// Recalls, resumption and loss of the session.
//
// A recall of file data: flush what is dirty, make the kernel forget pages and attributes, and
// give the lease up only when no read or write relied on it since the kernel was told. Reads and
// writes go on meanwhile under the old lease: making them wait would stop the very requests for
// which the kernel holds pages that it must drop. See docs/design.md, "Coherence between mounts".
//
// A recall is put off while sites are away and what is dirty cannot be stored: the daemon is told
// what stat(2) shows here, and the recall is tried again every second.
#include <sys/stat.h>

#include <atomic>
#include <future>
#include <memory>
#include <optional>
#include <thread>

#include "common/base/log.h"
#include "common/base/out_of_space.h"
#include "common/proto/file_time.h"
#include "fs/fuse/mount.h"

namespace datacloud {
namespace {

constexpr int kRecallRoundsMax = 20;  // then readers and writers are made to wait
constexpr int kFullRoundsMax = 3;     // a second each, for space to come back
constexpr auto kPause = seconds(1);   // of a recall that is put off
// For the kernel to drop pages: while an operation here waits for the daemon, and at all.
constexpr auto kKernelPatience = milliseconds(100);
constexpr auto kPagesPatience = seconds(5);
constexpr auto kPagesLook = milliseconds(10);
constexpr auto kUsersPatience = seconds(5);
constexpr auto kReplyPatience = seconds(1);  // for a program to take a reply

bool is_directory(Inode& inode) {
  std::lock_guard lock(inode.mutex);
  return S_ISDIR(inode.attr.mode());
}

}  // namespace

// A recall of a lease until it is answered.
struct Mount::Reduction {
  pb::Recall recall;
  uint64_t session = 0;
  InodePtr inode;
  uint64_t number = 0;  // of the inode's recalls
  int full_rounds = 0;  // without space
};

void Mount::on_push(const pb::Push& push) {
  if (!push.has_recall()) return;
  if (push.recall().locks()) {
    if (locks_) locks_->recalled(push.recall());
    return;
  }
  recalls_->post([this, recall = push.recall(), session = client_->session()] {
    handle_recall(recall, session);
  });
}

void Mount::answer_recall(uint64_t id) {
  pb::Request request;
  request.mutable_recall_done()->set_id(id);
  client_->call(std::move(request), [](result<pb::Reply>) {});
}

void Mount::handle_recall(const pb::Recall& recall, uint64_t session) {
  const InodePtr inode = table_.find(recall.ino());
  if (!inode) return answer_recall(recall.id());
  if (recall.names_size()) {
    table_.forget_names(recall.ino(), {recall.names().begin(), recall.names().end()});
    forget_names(inode);
    return answer_recall(recall.id());
  }
  auto reduction = std::make_shared<Reduction>(Reduction{recall, session, inode});
  {
    std::lock_guard lock(inode->mutex);
    reduction->number = ++inode->recalls;
  }
  reduce(reduction);
}

void Mount::reduce(const std::shared_ptr<Reduction>& reduction) {
  const InodePtr& inode = reduction->inode;
  const pb::LeaseMode mode = reduction->recall.mode();
  if (mode == pb::LEASE_NONE) table_.forget_names(inode->ino, {});
  if (!reduce_lease(*reduction)) return put_off(reduction);
  // Without a lease on its directory no name is told any more, and the kernel may have names, and
  // names it knows to be absent. So it is after a restart of the daemon.
  if (mode == pb::LEASE_NONE && is_directory(*inode)) forget_names(inode);
  if (mode == pb::LEASE_NONE) xattrs_.forget(inode->ino);
  // Before the answer: the daemon may free what nobody holds.
  if (mode == pb::LEASE_NONE) metadata_->hold_open(inode);
  answer_recall(reduction->recall.id());
  if (mode == pb::LEASE_NONE) table_.release_open_mark(inode);
}

// Others need not wait for what stat(2) shows, nor those who have changed names or attributes and
// only tell us. Without space they do: soon the data will be stored or given up.
void Mount::put_off(const std::shared_ptr<Reduction>& reduction) {
  const InodePtr& inode = reduction->inode;
  const bool full = reduction->full_rounds > 0;
  if (!full && client_->session() == reduction->session && client_->connected()) {
    if (reduction->recall.mode() == pb::LEASE_NONE) {
      // With what others have changed; size and times stay ours. This waits for no lease.
      (void)metadata_->run(lease_request(inode->ino, pb::LEASE_NONE, false));
      forget_attributes(inode);
    }
    const auto used = io_->blocks_used(inode);
    pb::Request request;
    auto* done = request.mutable_recall_done();
    done->set_id(reduction->recall.id());
    auto* unwritten = done->mutable_unwritten();
    {
      std::lock_guard lock(inode->mutex);
      unwritten->set_size(inode->attr.size());
      set_mtime(*unwritten, kept_time(mtime_of(inode->attr), time_range()));
      set_ctime(*unwritten, kept_time(ctime_of(inode->attr), time_range()));
    }
    unwritten->set_blocks_mapped(used.blocks + used.reserved);
    client_->call(std::move(request), [](result<pb::Reply>) {});
  }
  recalls_put_off_.after(kPause, [this, reduction] {
    recalls_->post([this, reduction] {
      {
        std::lock_guard lock(reduction->inode->mutex);
        if (reduction->inode->recalls != reduction->number) return;
        if (client_->session() != reduction->session) {
          reduction->inode->recalling = false;  // with the session the lease is gone
          return;
        }
      }
      reduce(reduction);
    });
  });
}

// The kernel makes its inode when the program that looked the file up goes on with our reply. Told
// to forget the attributes before, it knows no such inode, and would keep those of the reply.
void Mount::forget_attributes(const InodePtr& inode) {
  while (!kernel_.forget_attributes(inode->ino)) {
    {
      std::lock_guard lock(inode->mutex);
      if (inode->lookups == 0 || monotonic_now() - inode->named_at > kReplyPatience) return;
    }
    std::this_thread::sleep_for(milliseconds(1));
  }
}

// Of a directory whose entries others change.
void Mount::forget_names(const InodePtr& directory) {
  {
    std::lock_guard lock(directory->mutex);
    ++directory->entry_changes;
    directory->attr_stale = true;  // its times and link count changed with the entries
  }
  kernel_.forget_entries();
  forget_attributes(directory);
}

// Attributes and pages. Attributes are gone when this returns. The kernel may be stuck behind a
// page that one of our own writers holds locked while it waits for the lease that is being
// recalled: the pages are then dropped as soon as that writer is done. False when that is still to
// come. Nobody else is left to wait for: a lease that went before its pages would show others'
// changes late, so that a machine without time for this process is not taken for such a writer.
bool Mount::drop_kernel_pages(const InodePtr& inode) {
  forget_attributes(inode);
  const auto called = std::make_shared<std::atomic<bool>>(false);
  auto dropped = std::async(std::launch::async, [this, called, ino = inode->ino] {
    *called = true;
    kernel_.forget_pages_and_attributes(ino);
  });
  const auto began = monotonic_now();
  std::optional<MonotonicTime> stuck;
  while (dropped.wait_for(kPagesLook) != std::future_status::ready) {
    const auto now = monotonic_now();
    bool asking = false;
    {
      std::lock_guard lock(inode->mutex);
      asking = inode->askers > 0;
    }
    if (!asking || !*called)
      stuck.reset();
    else if (!stuck)
      stuck = now;
    const bool enough = now - began >= kPagesPatience || (stuck && now - *stuck >= kKernelPatience);
    if (!enough || !*called) continue;
    std::lock_guard lock(mutex_);
    std::erase_if(kernel_calls_, [](const auto& call) {
      return call.wait_for(seconds(0)) == std::future_status::ready;
    });
    kernel_calls_.push_back(std::move(dropped));
    return false;
  }
  return true;
}

void Mount::leave_records_alone() { io_->adopt_records(false); }

// False: it cannot be stored now.
bool Mount::store_for_others(Reduction& reduction) {
  const InodePtr& inode = reduction.inode;
  if (io_->cannot_store(inode)) return false;
  const auto flushed = io_->flush(inode, false);
  if (flushed) return true;
  if (!is_out_of_space(flushed.error()) || reduction.full_rounds++ < kFullRoundsMax) return false;
  spdlog::critical(
      "unwritten data of inode {} is given up: there is no space, and another mount wants the file",
      inode->ino);
  (void)io_->give_up(inode, flushed.error().errno_value());
  return io_->flush(inode, false).has_value();
}

// False: put off.
bool Mount::reduce_lease(Reduction& reduction) {
  const InodePtr& inode = reduction.inode;
  const pb::LeaseMode mode = reduction.recall.mode();
  {
    std::lock_guard lock(inode->mutex);
    inode->recalling = inode->lease > mode;
    if (!inode->recalling) return true;
  }
  io_->store_records_for_others(inode);
  for (int round = 0;; ++round) {
    if (!store_for_others(reduction)) return false;
    {
      std::lock_guard lock(inode->mutex);
      inode->served_while_recalled = 0;
    }
    const bool dropped = mode != pb::LEASE_NONE || drop_kernel_pages(inode);
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
      if (mode != pb::LEASE_NONE) return true;
      inode->attr_stale = true;
      reader_->invalidate(inode->ino);
      lock.unlock();
      if (!quiet && dropped) (void)drop_kernel_pages(inode);
      return true;
    }
    lock.unlock();
    if (round > kRecallRoundsMax) std::this_thread::sleep_for(milliseconds(10));
  }
}

// On the RPC's I/O thread: must not block.
void Mount::present_leases(pb::HelloRequest& hello) {
  for (const auto& unused : inode_numbers_ ? inode_numbers_->unused() : std::vector<IdRange>{}) {
    auto* range = hello.add_inodes();
    range->set_first(unused.first);
    range->set_count(unused.count);
  }
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
  const bool restarted = daemon_start_ != 0 && hello.start() != daemon_start_;
  const bool another = hello.session() != session_before_;
  daemon_start_ = hello.start();
  session_before_ = hello.session();
  if (!ids_) return;  // the first hello
  if (restarted) table_.forget_sequences();
  if (auto known = adopt_features(hello.features()); !known) {
    spdlog::error("{}", known.error().message());
  }
  apply_duties(hello.cloud().sites());
  if (hello.ids_revoked() || another) ids_->revoked();
  if (!hello.resumed()) inode_numbers_->revoked();
  const auto unlocked = locks_->session_begins(another);
  if (!another) return;
  if (!unlocked.empty())
    spdlog::error(
        "locks of {} files are lost with this mount's session; programs that hold them get EIO",
        unlocked.size());
  recalls_->post([this, unlocked] {
    session_lost();
    for (const InodeId ino : unlocked) kernel_.forget_pages_and_attributes(ino);
  });
}

// A change that the daemon had made and lost with its machine was made again, or could not be.
void Mount::redone(const pb::Request& request, const result<pb::Reply>& reply) {
  if (!metadata_ || !io_) return;
  metadata_->redone(request, reply);
  if (request.has_setxattr()) xattrs_.forget(request.setxattr().ino());
  if (request.has_removexattr()) xattrs_.forget(request.removexattr().ino());
  if (request.has_setattr()) xattrs_.forget(request.setattr().ino());
  const pb::CommitReply none;
  const auto& outcomes = (reply ? reply.value().commit() : none).outcomes();
  for (int i = 0; i < request.commit().updates_size(); ++i) {
    const bool made = i < outcomes.size() && outcomes[i].outcome() == pb::UpdateOutcome::APPLIED;
    const auto& update = request.commit().updates(i);
    const InodePtr inode = made ? nullptr : table_.find(update.ino());
    if (inode) io_->commit_lost(inode, update.change_id());
  }
}

// Leases of the old session are void already (they carry its id). What is open or has changes is
// asked for at once: that drops what other mounts' changes have overtaken (FileIo::overtaken). The
// kernel may have kept pages of all the others.
void Mount::session_lost() {
  spdlog::warn("the daemon has ended this mount's session; the mount requests its leases again");
  inode_numbers_->refill();
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
