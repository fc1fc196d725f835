// The daemon's materialised view: records in LevelDB, changed only by transactions.
//
// Every metadata change is one Transaction through MetadataStore::commit, which gives it a sequence
// number and applies it as one LevelDB batch. A committed transaction is visible and survives
// kill -9 at once; when_durable() says when it (and all before it) survive a power cut: one
// thread syncs the log for everybody who waits (group commit).
//
// A cloud with a journal at its sites (docs/journal.md, "The daemon's store") does not wait for
// that sync. Each transaction carries its position in the journal, and a record that undoes it, in
// the same LevelDB batch; what the journal's quorum has is durable. After a crash the store and the
// journal are brought together with replay() and undo(). A transaction that is committed without a
// position (fsck of a cloud that nobody serves) waits in the store for the next start, which puts
// it into the journal.
//
// LevelDB runs over LevelDbEnv, which makes every change through a FileLayer and syncs a log file
// before it is closed: LevelDB itself does not, and a synced batch in a new log would otherwise
// survive an unsynced one in the old.
//
// Threads: begin, get, scan, commit, undo, replay and view on the service thread only; what view()
// gives, on any. when_durable callbacks run on the sync thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/error.h"
#include "common/base/file_layer.h"
#include "common/base/ids.h"
#include "common/proto/journal.pb.h"
#include "common/proto/records.pb.h"
#include "daemon/journal/log_position.h"
#include "daemon/metadata/record_view.h"

namespace datacloud {

class RecordSnapshot;

// Cloud.format_version. Programs from before there were features know only the first.
inline constexpr uint32_t kMetadataFormatVersion = 1;
inline constexpr uint32_t kMetadataFormatFeatures = 2;  // with a record of features in use

// The store could not write for a reason of its directory, not of its medium: no room, read-only,
// no permission. What has been committed is whole, and reading goes on.
bool cannot_write(const Error&);

// Records of this directory alone, which are in no entry of the journal and in no checkpoint: undo
// records ('u') and the position ('A' "journal_position").
bool is_local_record(std::string_view key);

// A set of changes on top of the committed state; reads see the transaction's own changes.
class Transaction {
 public:
  Transaction(Transaction&&) = default;
  Transaction& operator=(Transaction&&) = default;
  // nullopt: no such record. corrupt or io: the view is damaged (stop the daemon).
  result<std::optional<std::string>> get(const std::string& key) const;
  // Parses into `message`; false when absent.
  template <class Message>
  result<bool> get(const std::string& key, Message& message) const {
    TRY(auto value, get(key));
    if (!value) return false;
    if (!message.ParseFromString(*value)) return corrupt_record(key);
    return true;
  }
  void put(const std::string& key, std::string value);
  template <class Message>
  requires requires(const Message& m) { m.SerializeAsString(); }
  void put(const std::string& key, const Message& message) {
    put(key, message.SerializeAsString());
  }
  void erase(const std::string& key);
  // Records with first <= key < end in order, until `visit` returns false. `visit` must not change
  // the transaction.
  result<void> scan(
      const std::string& first, const std::string& end,
      const std::function<bool(std::string_view key, std::string_view value)>& visit) const;
  // The last record with first <= key < end.
  result<std::optional<std::pair<std::string, std::string>>> last(const std::string& first,
                                                                  const std::string& end) const;
  // The stripe record under `key`, null when absent. Parsed ones are remembered (a few): a commit
  // touches the same stripe many times.
  struct ParsedStripe {
    std::shared_ptr<const pb::Stripe> record;
    bool added_here = false;  // by this transaction: every record about it is in here too
  };
  result<ParsedStripe> stripe(const std::string& key) const;
  // `last` among this transaction's own changes only: for records about what it added itself.
  std::optional<std::pair<std::string, std::string>> last_change(const std::string& first,
                                                                 const std::string& end) const;
  bool empty() const { return changes_.empty(); }
  const RecordChanges& changes() const { return changes_; }
  size_t bytes() const;

 private:
  friend class MetadataStore;
  friend class MetadataView;
  explicit Transaction(const RecordView& base) : base_(&base) {}
  static Error corrupt_record(const std::string& key);
  std::shared_ptr<RecordCursor> take_cursor() const;

  const RecordView* base_;  // what has been applied
  RecordChanges changes_;
  // Over the state of `cursor_sequence_`, kept between scans.
  mutable std::shared_ptr<RecordCursor> cursor_;
  mutable Sequence cursor_sequence_ = 0;
  mutable std::map<std::string, ParsedStripe> stripes_;
};

// What was committed at one moment, for requests that only read: may be used, and let go, on any
// thread. Reads fill the cache as the service's own do. Holds back LevelDB's clean-up of what it
// still sees; the store must outlive it.
class MetadataView : public RecordView {
 public:
  Transaction begin() const { return Transaction(*this); }
};

class MetadataStore final : private RecordView {
 public:
  struct Options {
    std::string directory;             // absolute
    std::shared_ptr<FileLayer> files;  // null: the real one
    uint64_t cache_bytes = 64u << 20;
    uint64_t write_buffer_bytes = 16u << 20;  // LevelDB switches to a new log after this much
  };
  // Opens an existing store. not_found: run `datacloud create`. unavailable: another daemon has it.
  static result<std::unique_ptr<MetadataStore>> open(Options);
  // Makes a new store holding the cloud record and the root directory, durable on success.
  // exists when there is one.
  // `features`: what the cloud uses from the beginning; without any its format is 1. `journal`:
  // where its journal is, whose feature has to be among them; null: it has none.
  static result<void> create(Options, const pb::Cloud&, uint32_t root_uid, uint32_t root_gid,
                             const pb::Features& features = {},
                             const pb::JournalSet* journal = nullptr);
  ~MetadataStore() override;

  Transaction begin() const { return Transaction(*this); }
  // What is committed now, to be read on any thread. See record_snapshot.h.
  std::unique_ptr<RecordSnapshot> snapshot() const;
  std::shared_ptr<const MetadataView> view() const;
  result<Sequence> commit(Transaction&&);
  Sequence sequence() const override;
  // The last one that the local directory keeps over a power cut; 0 after a failure.
  Sequence durable() const;
  // Of the local directory; a journal makes no difference.
  void when_durable(Sequence, std::function<void(result<void>)>);
  result<void> wait_durable(Sequence);  // blocking form

  // The journal (metadata_journal.cc). All fail as commit() does; after a failure nothing more is
  // committed.

  // Whether transactions carry undo records: the cloud has a journal.
  bool journaled() const;
  // What commit() notes of the entry that holds the transaction.
  struct JournalStep {
    journal::LogPosition before;    // in front of its (first) entry
    journal::LogPosition position;  // of its (last) entry
    uint64_t committed = 0;         // sequence: what undoes entries up to it is erased
  };
  result<Sequence> commit(Transaction&&, const JournalStep&);
  // The position of the newest transaction that is in the journal.
  journal::LogPosition journal_position() const;
  // Transactions that can be undone, the oldest first. `number` is the sequence of their last
  // entry; of one that was committed without a position, the next free number. `before` is where
  // the store is once it has been undone.
  struct Undoable {
    uint64_t number = 0;
    journal::LogPosition before;
  };
  result<std::vector<Undoable>> undoable() const;
  // Takes back the newest of them. invalid: there is none.
  result<void> undo();
  // What all undoable ones from this number on have changed, as it is now: net of each other.
  result<RecordChanges> changes_since(uint64_t number) const;
  // Makes one undoable transaction, of these entries, out of all from this number on.
  result<void> merge_undo(uint64_t number, const JournalStep&);
  // Applies what an entry of the adopted log holds. `sequence` is the store's afterwards. Nothing
  // undoes it, nor what was before it, if it is `committed`: for entries that certainly are.
  enum class Replay { committed, undoable };
  result<void> replay(const RecordChanges&, Sequence, const JournalStep&, Replay);

 private:
  struct Impl;
  result<std::optional<std::string>> read(const std::string& key) const override;
  std::shared_ptr<RecordCursor> cursor() const override;
  result<Sequence> commit(Transaction&&, const JournalStep*);
  void sync_loop();
  explicit MetadataStore(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl_;
};

}  // namespace datacloud
