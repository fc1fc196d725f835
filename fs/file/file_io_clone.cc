// copy_file_range by shared blocks: the daemon maps blocks of the source a second time, and no data
// move.
//
// Before a commit both files are settled: what of them is not committed is flushed, the target has
// no changes and gets none (Inode::sharing), so that blocks here and there are never of two states,
// and both leases stay (UseGuard). Nobody waits for one file's lease while it uses the other.
// The commit names the source's change id: when the source has moved on it is left out whole, and
// everything is tried again. It goes past the pipeline, whose units it must not overtake nor have
// to follow: there are none.
//
// A caller may be killed while its commit is under way; whoever completes it (direct_answered) then
// keeps the books and lets go of both files.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "common/proto/file_time.h"
#include "common/rpc/clone_limits.h"
#include "fs/base/interruption.h"
#include "fs/file/change_ids.h"
#include "fs/file/direct_commit.h"
#include "fs/file/file_io.h"

namespace datacloud {
namespace {

constexpr int kAttemptsMax = 8;  // while the files change, or sessions end
// With so much to be copied a call returns: what follows may be shared by the next one.
constexpr uint64_t kCopiedBytesMax = 16u << 20;
constexpr uint64_t kPieceBytes = 1u << 20;
// Less than this of a file that is not committed yet is copied in memory: flushing would take
// longer, and make a small stripe.
constexpr uint64_t kFlushedBytesMin = 4u << 20;

struct Kind {
  uint32_t block_bytes = 0, realm = 0, generation = 0;
  bool clean = false;

  bool keeps_blocks_as(const Kind& other) const {
    return block_bytes == other.block_bytes && realm == other.realm &&
           generation == other.generation;
  }
};

Kind kind_of(Inode& inode) {
  std::lock_guard lock(inode.mutex);
  return {inode.block_bytes(), inode.attr.realm(), inode.attr.generation(), inode.clean()};
}

// What stands in the way of sharing any of the range, besides what the daemon finds.
const char* obstacle(const Kind& source, const Kind& target, uint64_t from_offset,
                     uint64_t to_offset, uint64_t length, bool or_copy) {
  const uint64_t bs = source.block_bytes;
  if (!source.keeps_blocks_as(target)) return "they are sealed differently";
  const uint64_t head = (bs - from_offset % bs) % bs;
  if (from_offset % bs != to_offset % bs || length <= head || (!or_copy && head > 0))
    return "the ranges are not blocks of both";
  const bool clean = source.clean && target.clean;
  if (or_copy && !clean && length < kFlushedBytesMin) return "little data, not committed yet";
  return nullptr;
}

}  // namespace

// Blocks of copy_range() and what has become of them.
struct FileIo::SharedPart {
  InodePtr source, target;
  uint64_t from_offset = 0, to_offset = 0;  // at the beginning of a block
  uint64_t length = 0;
  uint64_t blocks_max = kCloneBlocksMax;  // of the next commit
  uint64_t done = 0;                      // bytes
  bool refused = false;                   // the next blocks cannot be shared
  // Of the last commit that may have been executed: its change id, and `done` if it has been.
  uint64_t doubted_id = 0, doubted_done = 0;
};

// The target without changes, and leases on both. Null when they do not come to rest.
result<FileIo::SharingPtr> FileIo::settle(const InodePtr& source, const InodePtr& target,
                                          Into into) {
  // What is in the records cannot be shared: into stripes first.
  const auto flush_changes = [this, into](const InodePtr& inode) -> result<void> {
    if (into == Into::stripes && has_records(inode)) return store_records(inode);
    {
      std::lock_guard lock(inode->mutex);
      if (inode->clean()) return success();
    }
    return flush(inode, false);
  };
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    TRY(flush_changes(source));
    TRY(flush_changes(target));
    TRY(auto acquired, UseGuard::acquire(d_.metadata, target, pb::LEASE_WRITE));
    std::optional<UseGuard> target_use(std::move(acquired)), source_use;
    if (source != target) {
      if (auto held = UseGuard::acquire_held(d_.metadata, source, pb::LEASE_READ)) {
        source_use.emplace(std::move(*held));
      } else {
        target_use.reset();
        TRY(d_.metadata.ensure_lease(source, pb::LEASE_READ, false));
        continue;
      }
    }
    std::unique_lock lock(target->mutex);
    TRY(wait_while_sharing(*target, lock));
    if (!target->clean() || !d_.metadata.holds(*target, pb::LEASE_WRITE)) continue;
    target->sharing = true;
    ++target->shares;
    lock.unlock();
    return std::make_shared<Sharing>(target, std::move(*target_use), std::move(source_use));
  }
  return SharingPtr();
}

// Sends the commit and waits for its answer.
result<void> FileIo::commit_direct(const SharingPtr& sharing,
                                   const std::shared_ptr<DirectCommit>& commit) {
  Inode& target = *sharing->target;
  pb::Request request;
  pb::InodeUpdate& update = *request.mutable_commit()->add_updates();
  update = commit->update;
  {
    std::lock_guard lock(target.mutex);
    commit->change_id = next_change_id(target);
    for (const uint64_t id : states_to_follow(target)) update.add_follows(id);
  }
  commit->now_ns = wall_now_ns();
  update.set_ino(target.ino);
  update.set_change_id(commit->change_id);
  update.set_mtime_ns(commit->now_ns);
  update.set_ctime_ns(commit->now_ns);
  {
    std::lock_guard lock(mutex_);
    ++clones_under_way_;
  }
  // The RPC has a deadline of its own; this one never comes first.
  const auto patience = milliseconds(d_.config.rpc_deadline_ms) + seconds(10);
  d_.metadata.ask(std::move(request), patience,
                  [this, sharing, commit](const result<MetadataClient::Answer>& answer) {
                    direct_answered(*sharing, *commit, answer);
                  });
  std::unique_lock lock(target.mutex);
  if (auto waited = wait_interruptibly(target.changed, lock, [&] { return commit->answered; });
      !waited) {
    commit->abandoned = true;
    return waited;
  }
  if (commit->error) return failure(*commit->error);
  return success();
}

// On the RPC's I/O thread (or the caller's): must not block.
void FileIo::direct_answered(Sharing& sharing, DirectCommit& commit,
                             const result<MetadataClient::Answer>& answer) {
  using Outcome = DirectCommit::Outcome;
  const InodePtr& inode = sharing.target;
  bool forget = false;
  {
    std::lock_guard lock(inode->mutex);
    if (!answer) {
      const Error& error = answer.error();
      // An errno is the daemon's answer: nothing was changed.
      commit.in_doubt = session_is_over(error) || error.is(Errc::unavailable);
      if (commit.in_doubt) {
        note_unsure(*inode, commit.change_id);
        inode->lease = pb::LEASE_NONE;  // asked for again: the answer comes after the commit
        inode->attr_stale = true;
        d_.reader.invalidate(inode->ino);
      }
      if (!session_is_over(error)) commit.error = error.in(commit.what);
    } else if (const auto& reply = answer.value().reply; reply.commit().outcomes_size() != 1) {
      commit.error = Error(Errc::corrupt, "the daemon did not say what became of a commit");
    } else {
      const auto& outcome = reply.commit().outcomes(0);
      switch (outcome.outcome()) {
        case pb::UpdateOutcome::APPLIED:
          commit.outcome = Outcome::applied;
          note_direct(*inode, commit, outcome, reply.sequence());
          break;
        case pb::UpdateOutcome::NOT_SHARED:
          commit.outcome = Outcome::not_shared;
          break;
        case pb::UpdateOutcome::NO_SPACE:
          commit.error = Error(Errc::no_space,
                               fmt::format("the sites do not have what inode {} would reserve, or "
                                           "it would be in too many ranges",
                                           inode->ino));
          break;
        case pb::UpdateOutcome::OVERTAKEN:  // the lease went without a word
          inode->lease = pb::LEASE_NONE;
          inode->attr_stale = true;
          overtaken(inode);
          break;
        default:
          commit.error =
              Error::posix(ESTALE, fmt::format("inode {} does not exist any more", inode->ino));
      }
    }
    commit.answered = true;
    forget = commit.abandoned && (commit.in_doubt || commit.outcome == Outcome::applied);
    inode->changed.notify_all();
  }
  // The kernel, whose caller is gone, has not dropped the pages that are old now.
  if (forget) d_.pipeline.post([this, ino = inode->ino] { d_.forget_pages(ino); });
  std::lock_guard lock(mutex_);
  --clones_under_way_;
  clones_answered_.notify_all();
}

// The caller holds the inode's mutex.
void FileIo::note_direct(Inode& inode, const DirectCommit& commit, const pb::UpdateOutcome& outcome,
                         Sequence sequence) {
  d_.reader.invalidate(inode.ino);
  inode.attr.set_size(std::max(inode.attr.size(), commit.update.grow_to()));
  const FileTime now = from_ns(commit.now_ns);
  set_mtime(inode.attr, now);
  if (ctime_of(inode.attr) < now) set_ctime(inode.attr, now);
  if (d_.metadata.session() == inode.attr_session && sequence >= inode.attr_sequence) {
    inode.stored = {outcome.size(), outcome.blocks_mapped(), commit.change_id,
                    outcome.blocks_reserved()};
    inode.attr.set_blocks_mapped(outcome.blocks_mapped());
    inode.attr.set_blocks_reserved(outcome.blocks_reserved());
    inode.attr.set_change_id(commit.change_id);
    inode.attr_sequence = sequence;
  }
  if (inode.stored.change_id == commit.change_id)
    inode.unsure.clear();
  else
    note_unsure(inode, commit.change_id);
}

// Shares what of the part can be while both files are settled. Success without an end: again.
result<void> FileIo::share_settled(const SharingPtr& sharing, SharedPart& part) {
  StoredState source;
  uint64_t target_size = 0;
  {
    std::lock_guard lock(part.source->mutex);
    source = part.source->stored;
  }
  {
    std::lock_guard lock(part.target->mutex);
    target_size = part.target->attr.size();
    // What was in doubt has happened. To be found out before anything is made again: within one
    // file its end is now another.
    if (part.doubted_id != 0 && part.target->stored.change_id == part.doubted_id)
      part.done = part.doubted_done;
  }
  const uint64_t bs = part.source->block_bytes();
  const uint64_t there = source.size - std::min(source.size, part.from_offset);
  part.length = std::max(std::min(part.length, there), part.done);
  if (part.length == part.done) return success();
  // The last block of the source can be the target's last one, too: neither holds more.
  const uint64_t end = part.to_offset + part.length;
  const bool with_tail = part.from_offset + part.length == source.size && end >= target_size;
  const uint64_t blocks = part.length / bs + (with_tail && part.length % bs != 0 ? 1 : 0);
  const uint64_t first = part.from_offset / bs, first_target = part.to_offset / bs;
  while (part.done / bs < blocks && part.done < part.length) {
    const uint64_t at = part.done / bs;
    const auto commit = std::make_shared<DirectCommit>();
    const uint64_t count = std::min(blocks - at, part.blocks_max);
    commit->what = "sharing blocks";
    pb::Clone& clone = *commit->update.add_clones();
    clone.set_from_ino(part.source->ino);
    clone.set_from_block(first + at);
    clone.set_to_block(first_target + at);
    clone.set_blocks(static_cast<uint32_t>(count));
    clone.set_from_change_id(source.change_id);
    commit->update.set_grow_to(std::min(part.to_offset + (at + count) * bs, end));
    const uint64_t done_then = std::min((at + count) * bs, part.length);
    auto done = commit_direct(sharing, commit);
    if (std::lock_guard lock(part.target->mutex); commit->in_doubt) {
      part.doubted_id = commit->change_id;
      part.doubted_done = done_then;
    }
    if (!done) return done;
    if (commit->outcome == DirectCommit::Outcome::applied) {
      part.done = done_then;
      // Within one file its state is now the one just made.
      if (part.source == part.target) source.change_id = commit->change_id;
      continue;
    }
    if (commit->outcome == DirectCommit::Outcome::again) return success();
    std::lock_guard lock(part.source->mutex);
    if (part.source->stored.change_id != source.change_id) return success();  // it has moved on
    if (count <= kCloneBlocksSure) {
      part.refused = true;
      return success();
    }
    part.blocks_max = std::max<uint64_t>(count / 2, kCloneBlocksSure);
  }
  part.refused = part.done < part.length;  // less than a block is left
  return success();
}

result<void> FileIo::share_blocks(SharedPart& part) {
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    TRY(const auto sharing, settle(part.source, part.target));
    if (!sharing) break;
    TRY(share_settled(sharing, part));
    if (part.refused || part.done == part.length) return success();
  }
  part.refused = true;
  return success();
}

// Through memory; 0 at the end of the source.
result<uint64_t> FileIo::copy_bytes(FileHandle& from, uint64_t from_offset, const InodePtr& to,
                                    uint64_t to_offset, uint64_t length) {
  uint64_t done = 0;
  while (done < length) {
    Bytes piece;
    {
      auto read =
          this->read(from, from_offset + done, std::min<uint64_t>(length - done, kPieceBytes));
      if (!read && done == 0) return failure(read.error());
      if (!read || read.value().size == 0) break;
      piece.reserve(read.value().size);
      for (const auto& view : read.value().views)
        piece.insert(piece.end(), view.begin(), view.end());
    }  // no longer used while the target's lease is waited for
    auto written = write(to, to_offset + done, piece, false);
    if (!written && done == 0) return failure(written.error());
    if (!written) break;
    done += piece.size();
  }
  return done;
}

// How much of the range there is.
result<uint64_t> FileIo::range_length(const InodePtr& source, uint64_t from_offset,
                                      const InodePtr& target, uint64_t to_offset, uint64_t length) {
  if (length == 0) return length;
  if (to_offset >= kFileBytesMax) return failure(Error::posix(EFBIG, "files end at 16 TiB"));
  {
    TRY(const auto use, UseGuard::acquire(d_.metadata, source, pb::LEASE_READ));
    std::lock_guard lock(source->mutex);
    const uint64_t size = source->attr.size();
    if (source->block_bytes() < kBlockBytesMin)
      return failure(Errc::corrupt, "the file's block size is invalid");
    if (from_offset >= size) return uint64_t{0};
    length = std::min({length, kFileBytesMax - to_offset, size - from_offset});
  }
  if (source == target && from_offset < to_offset + length && to_offset < from_offset + length)
    return failure(Error::posix(EINVAL, "the ranges overlap"));
  return length;
}

// Shares what can be, from block to block, and copies the rest. Why it stopped before the end, if
// it did so for an error.
std::optional<Error> FileIo::copy_parts(FileHandle& from, SharedPart range, Copying how,
                                        Copied& out, bool& in_doubt) {
  const uint64_t bs = range.source->block_bytes();
  const uint64_t begin = range.from_offset, to_begin = range.to_offset, length = range.length;
  for (uint64_t copied = 0; out.bytes < length && copied < kCopiedBytesMax;) {
    const uint64_t into = (begin + out.bytes) % bs;
    uint64_t next = into != 0 ? bs - into : kCopiedBytesMax;  // to be copied, if at all
    if (into == 0) {
      SharedPart part = range;
      part.from_offset = begin + out.bytes;
      part.to_offset = to_begin + out.bytes;
      part.length = length - out.bytes;
      const auto shared = share_blocks(part);
      in_doubt = in_doubt || part.doubted_id != 0;
      out.bytes += part.done;
      out.shared += part.done;
      if (!shared) return shared.error();
      if (!part.refused) return std::nullopt;
      const bool tail = part.length - part.done < bs;
      if (how == Copying::share || (out.bytes == 0 && tail)) {
        return tail ? Error::posix(EINVAL, "the target goes on behind the range")
                    : Error::posix(EMLINK, "shared too often, damaged, or being changed");
      }
    }
    next = std::min(next, length - out.bytes);
    const auto bytes =
        copy_bytes(from, begin + out.bytes, range.target, to_begin + out.bytes, next);
    if (!bytes) return bytes.error();
    if (bytes.value() == 0) break;
    copied += bytes.value();
    out.bytes += bytes.value();
  }
  return std::nullopt;
}

result<FileIo::Copied> FileIo::copy_range(FileHandle& from, uint64_t from_offset, FileHandle& to,
                                          uint64_t to_offset, uint64_t length, Copying how) {
  const InodePtr &source = from.inode, &target = to.inode;
  // What stands in the way of sharing need not be in that of copying.
  const auto cannot = [&](int value, const std::string& why) {
    return failure(Error::posix(how == Copying::share ? value : EOPNOTSUPP,
                                fmt::format("blocks of inode {} are not shared with inode {}: {}",
                                            source->ino, target->ino, why)));
  };
  Copied out;
  TRY(length, range_length(source, from_offset, target, to_offset, length));
  if (length == 0) return out;
  if (const char* why = obstacle(kind_of(*source), kind_of(*target), from_offset, to_offset, length,
                                 how == Copying::share_or_copy)) {
    return cannot(EINVAL, why);
  }
  SharedPart range;
  range.source = source;
  range.target = target;
  range.from_offset = from_offset;
  range.to_offset = to_offset;
  range.length = length;
  bool in_doubt = false;
  const auto failed = copy_parts(from, std::move(range), how, out, in_doubt);
  if (in_doubt) d_.forget_pages(target->ino);
  if (out.bytes > 0 || !failed) return out;
  const int value = failed->errno_value();
  if (value == EINTR || value == ESTALE) return failure(*failed);
  return cannot(value, failed->message());
}

void FileIo::wait_shared() {
  std::unique_lock lock(mutex_);
  clones_answered_.wait(lock, [this] { return clones_under_way_ == 0 && !storing_records_; });
}

}  // namespace datacloud
