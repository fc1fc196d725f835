// Brings a standby's store along with the journal, without a claim: docs/journal.md, "Standby and
// take-over".
//
// It is fed what sites have behind next(), and applies what is known to be committed, each
// transaction as one batch with its position. Entries that are not known to be committed wait in
// memory: another leader may supersede them. So nothing it has applied is ever taken back. What a
// former leader has left in the store beside the log is undone when a committed entry of another
// history takes its place.
//
// Every entry is authenticated before it counts for anything: no site can make an entry count as
// committed.
//
// Threading: the thread of the store. Memory: at most kWaitingBytesMax, and what is being fed.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "common/base/error.h"
#include "common/proto/journal.pb.h"
#include "daemon/journal/entry_sealer.h"
#include "daemon/journal/log_entry.h"
#include "daemon/metadata/journal_committer.h"
#include "daemon/metadata/metadata_store.h"

namespace datacloud {

class LogFollower {
 public:
  static constexpr uint64_t kWaitingBytesMax = uint64_t{256} << 20;

  // Failures: of the store.
  static result<LogFollower> open(MetadataStore&, const journal::JournalId&,
                                  const SecretKey& metadata_key);

  // The sequence from which a site is to be read.
  uint64_t next() const { return last_.sequence + 1; }
  enum class Fed {
    nothing,  // the log has nothing new there
    news,     // entries that were not seen before
    parted,   // what was read does not follow what this store has: ask again from next()
  };
  // What a site's log has from next() on; entries that come too late, or twice, do no harm.
  // corrupt: an entry is not this cloud's; take another site. not_found: the store is no part of
  // this log, and cannot be made one: another site's log may be older; when all say so the store
  // has to be rebuilt. Others: of the store.
  result<Fed> feed(const std::vector<journal::LogEntry>&);
  // Begins anew at where the store is, with another site's log.
  void restart();
  // The leader says that its log is committed up to there.
  result<void> told_committed(const journal::LogPosition&);

  // Where the store is, entries that change no records included.
  const journal::LogPosition& applied() const { return applied_; }
  // The end of what was read.
  const journal::LogPosition& seen() const { return last_; }
  // The last entry, if that is a note of the leader.
  const pb::LeaderNote* last_note() const { return note_at_ == last_.sequence ? &note_ : nullptr; }
  uint64_t transactions() const { return transactions_; }
  uint64_t undone() const { return undone_; }
  // Whether records of the cloud's sites, or of the journal's, have changed since this was asked.
  bool take_sites_changed() { return std::exchange(sites_changed_, false); }

 private:
  LogFollower(MetadataStore&, const journal::JournalId&, const SecretKey& metadata_key);
  void drop_waiting();
  result<void> apply();
  result<void> apply_one(const journal::LogEntry&);
  result<Fed> part();

  MetadataStore* store_;
  journal::JournalId journal_;
  SecretKey metadata_key_;
  std::unique_ptr<BatchReader> batches_;
  std::unique_ptr<journal::EntryOpener> opener_;
  std::vector<MetadataStore::Undoable> undoable_;
  size_t before_ = 0;  // of undoable_: those from here on lie behind applied_
  journal::LogPosition applied_;
  journal::LogPosition in_front_;  // of the transaction that is open
  bool open_ = false;
  std::deque<journal::LogEntry> waiting_;  // behind applied_
  uint64_t waiting_bytes_ = 0;
  journal::LogPosition last_;
  uint64_t committed_ = 0;  // known to be
  pb::LeaderNote note_;
  uint64_t note_at_ = UINT64_MAX;  // sequence
  uint64_t transactions_ = 0, undone_ = 0;
  bool sites_changed_ = false;
};

}  // namespace datacloud
