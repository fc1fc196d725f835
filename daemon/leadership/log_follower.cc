// See log_follower.h.
#include "daemon/leadership/log_follower.h"

#include <algorithm>

#include "daemon/metadata/journal_records.h"
#include "daemon/metadata/record_keys.h"

namespace datacloud {

using journal::EntryKind;
using journal::LogEntry;
using journal::LogPosition;

LogFollower::LogFollower(MetadataStore& store, const journal::JournalId& id, const SecretKey& key)
    : store_(&store),
      journal_(id),
      metadata_key_(key),
      batches_(std::make_unique<BatchReader>(key)),
      opener_(std::make_unique<journal::EntryOpener>(key)) {}

result<LogFollower> LogFollower::open(MetadataStore& store, const journal::JournalId& id,
                                      const SecretKey& key) {
  LogFollower follower(store, id, key);
  TRY(follower.undoable_, store.undoable());
  follower.before_ = follower.undoable_.size();
  follower.applied_ = follower.last_ = store.journal_position();
  return follower;
}

void LogFollower::drop_waiting() {
  waiting_.clear();
  waiting_bytes_ = 0;
  last_ = applied_;
}

void LogFollower::restart() {
  drop_waiting();
  batches_ = std::make_unique<BatchReader>(metadata_key_);
  open_ = false;
  before_ = undoable_.size();
  applied_ = last_ = store_->journal_position();
}

// The log goes on otherwise than here. First what only waits is given up, then what the store can
// take back: it is taken back when a committed entry is there instead.
result<LogFollower::Fed> LogFollower::part() {
  const bool waited = !waiting_.empty();
  drop_waiting();
  // Parts of a transaction that were applied to nothing yet.
  if (open_) {
    batches_ = std::make_unique<BatchReader>(metadata_key_);
    open_ = false;
    applied_ = in_front_;
    last_ = applied_;
    return Fed::parted;
  }
  if (waited) return Fed::parted;
  if (before_ == 0) {
    return failure(Errc::not_found, "the metadata store is at entry " +
                                        std::to_string(store_->journal_position().sequence) +
                                        " of a history that the journal does not have");
  }
  --before_;
  applied_ = last_ = undoable_[before_].before;
  return Fed::parted;
}

result<LogFollower::Fed> LogFollower::feed(const std::vector<LogEntry>& entries) {
  if (waiting_bytes_ > kWaitingBytesMax) {  // a log that says of nothing that it is committed
    drop_waiting();
    return Fed::parted;
  }
  bool any = false;
  for (const LogEntry& entry : entries) {
    if (entry.header.sequence <= last_.sequence) continue;
    if (!continues(entry, journal_, last_)) {
      TRY(apply());
      if (any) return Fed::news;
      return part();
    }
    TRY(const auto content, opener_->open(entry));
    last_ = entry.position();
    if (entry.header.kind == EntryKind::note) {
      note_at_ = last_.sequence;
      if (!note_.ParseFromArray(content.data(), static_cast<int>(content.size()))) note_.Clear();
    }
    committed_ = std::max(committed_, std::min(entry.header.committed, entry.header.sequence));
    waiting_bytes_ += entry.bytes->size();
    waiting_.push_back(entry);
    any = true;
  }
  if (!any) return Fed::nothing;
  TRY(apply());
  return Fed::news;
}

result<void> LogFollower::told_committed(const LogPosition& position) {
  if (position.sequence <= committed_) return success();
  for (const LogEntry& entry : waiting_) {
    if (entry.header.sequence != position.sequence) continue;
    if (entry.hash != position.hash) {  // what waits here was superseded, and a log may be shorter
      drop_waiting();
      return success();
    }
    committed_ = position.sequence;
    return apply();
  }
  return success();
}

result<void> LogFollower::apply() {
  while (!waiting_.empty() && waiting_.front().header.sequence <= committed_) {
    TRY(apply_one(waiting_.front()));
    waiting_bytes_ -= waiting_.front().bytes->size();
    waiting_.pop_front();
  }
  return success();
}

result<void> LogFollower::apply_one(const LogEntry& entry) {
  if (entry.header.kind == EntryKind::opening) open_ = false;
  if (!open_) in_front_ = applied_;
  TRY(auto batch, batches_->add(entry));
  if (entry.header.kind == EntryKind::data) open_ = !batch;
  if (!batch) {
    applied_ = entry.position();
    return success();
  }
  for (; undoable_.size() > before_; undoable_.pop_back(), ++undone_) {
    TRY(store_->undo());
  }
  const MetadataStore::JournalStep step{
      .before = in_front_, .position = entry.position(), .committed = 0};
  TRY(store_->replay(batch->changes, batch->sequence, step, MetadataStore::Replay::committed));
  undoable_.clear();
  before_ = 0;
  applied_ = entry.position();
  ++transactions_;
  sites_changed_ = sites_changed_ || batch->changes.contains(key::meta(kJournalRecord)) ||
                   batch->changes.contains(key::meta("cloud"));
  return success();
}

}  // namespace datacloud
