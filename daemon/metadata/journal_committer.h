// Commits to the local store and to the journal at the sites: durable is what a quorum has.
//
// A transaction is sealed as the next entry (as several, if it is large), committed to the store
// together with its position and what undoes it, and only then handed to the log: whatever the log
// has of this leader, the store had first. The store is not synced for it; what a power cut takes
// from it, the journal brings back at the next start (journal_start.h).
//
// Entries that nobody waits for are handed over together, `append_delay` after the first of them:
// an append costs each site's threads far more than an entry does. Who waits for durable (or for
// room) does not wait for that.
//
// Failures: a store that cannot write, as LocalCommitter. A log that was fenced: another daemon
// leads; `fatal` is called once, on the loop, and this daemon ends. A site that is away is no
// failure: without a quorum, changes go on until `uncommitted_bytes_max` bytes wait, then full().
//
// Threads: the loop's only.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "daemon/journal/entry_sealer.h"
#include "daemon/journal/quorum_log.h"
#include "daemon/metadata/committer.h"

namespace datacloud {

class JournalCommitter final : public Committer {
 public:
  struct Options {
    std::shared_ptr<EventLoop> loop;
    // Has begun, and the store has all that it holds.
    std::shared_ptr<journal::QuorumLog> log;
    std::unique_ptr<journal::EntrySealer> sealer;  // of the log's epoch, which sealed its opening
    journal::LogPosition last;                     // the end of the log
    uint64_t uncommitted_bytes_max = 64u << 20;
    // How long an entry may wait for others if nobody waits for it. 0: it goes at once.
    Duration append_delay{0};
    std::function<void(const Error&)> fatal;  // on the loop, or within apply()
  };
  JournalCommitter(MetadataStore&, Options);
  ~JournalCommitter() override;

  result<void> apply(Transaction&&) override;
  void when_committed(std::function<void()> f) override { f(); }
  void when_durable(std::function<void()>) override;
  void tell_when_durable(std::function<void()>) override;
  bool durable() const override;
  result<void> wait_durable(Duration) override;
  bool full() const override;
  void when_room(std::function<void()>) override;

  // Puts into the log, as one transaction, all that the store has from this undo number on
  // (start_journal). Before anything is applied.
  result<void> append_local(uint64_t number);

  // An entry that changes no records: a root, heads. `committed` runs on the loop, with the entry's
  // position, once a quorum has it; never if the daemon ends before. invalid: too large.
  result<void> append(journal::EntryKind, ByteView content,
                      std::function<void(const journal::LogPosition&)> committed);
  // From now on nothing is applied or appended: both fail with `unavailable`, and the daemon goes
  // on to its end.
  void close() { closed_ = true; }
  const journal::LogPosition& last() const { return last_; }
  // Lets the log forget entries below. A checkpoint that the store has durably covers them.
  void trim(uint64_t floor);
  uint64_t floor() const { return floor_; }
  // Of the entries from the floor on. Those from before the start are counted as being as large as
  // the ones since, or 1 KiB.
  uint64_t bytes() const;
  journal::QuorumLog& log() const { return *options_.log; }
  uint64_t uncommitted_bytes_max() const { return options_.uncommitted_bytes_max; }
  uint64_t waiting() const { return room_.size(); }

 private:
  struct Sealed {
    std::vector<journal::LogEntry> entries;
    MetadataStore::JournalStep step;
  };
  result<Sealed> seal(const RecordChanges&, Sequence);
  result<journal::LogEntry> seal_one(journal::EntryKind, ByteView content);
  void hand_over(std::vector<journal::LogEntry>);
  void flush();
  bool has_room() const;
  void await_room();

  MetadataStore& store_;
  const Options options_;
  journal::LogPosition last_;
  std::vector<journal::LogEntry> held_;  // sealed, and not handed to the log yet
  uint64_t held_bytes_ = 0;
  bool flush_due_ = false;                  // a timer will
  std::deque<std::function<void()>> room_;  // that wait for it
  bool awaiting_ = false;
  bool closed_ = false;
  uint64_t floor_ = 1;
  uint64_t begun_ = 0;           // sequence of the opening entry
  uint64_t appended_bytes_ = 0;  // since then
  const std::shared_ptr<char> alive_ = std::make_shared<char>();
};

// The transactions of entries of kind data, as they were sealed. An entry with `more` goes on in
// the next one; the parts of a transaction that was cut off by the end of its epoch count for
// nothing.
class BatchReader {
 public:
  explicit BatchReader(const SecretKey& metadata_key) : opener_(metadata_key) {}
  struct Batch {
    Sequence sequence = 0;
    RecordChanges changes;
  };
  // To be given every entry in order. A whole transaction with its last entry. corrupt: not sealed
  // by this cloud, or not to be parsed.
  result<std::optional<Batch>> add(const journal::LogEntry&);

 private:
  journal::EntryOpener opener_;
  std::optional<Batch> open_;  // its first parts
};

}  // namespace datacloud
