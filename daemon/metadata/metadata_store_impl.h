// What the parts of MetadataStore share (metadata_store.cc, metadata_journal.cc).
#pragma once

#include <leveldb/cache.h>
#include <leveldb/db.h>
#include <leveldb/filter_policy.h>
#include <leveldb/write_batch.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "common/base/clock.h"
#include "common/proto/journal.pb.h"
#include "daemon/metadata/leveldb_env.h"
#include "daemon/metadata/metadata_store.h"

namespace datacloud {

// The value of record 'A' "sequence".
std::string encode_sequence(Sequence);

inline void put_change(leveldb::WriteBatch& batch, const std::string& key,
                       const std::optional<std::string>& value) {
  if (value) {
    batch.Put(key, *value);
  } else {
    batch.Delete(key);
  }
}

// What is known of the journal once a batch is written.
struct JournalNote {
  uint64_t number = 0;            // of the undo record that was added; 0: none
  size_t erased = 0;              // of the oldest undo records
  journal::LogPosition position;  // as recorded
};

struct MetadataStore::Impl {
  struct Waiter {
    Sequence sequence = 0;
    std::function<void(result<void>)> done;
  };

  explicit Impl(Options o) : options(std::move(o)), env(options.files) {}

  result<void> open_database(bool create);
  // metadata_journal.cc: whether there is a journal, and what is undoable.
  result<void> open_journal();
  // Adds to the batch what undoes the changes, and the position. `step` null: in no entry yet.
  result<JournalNote> note_undo(leveldb::WriteBatch&, const RecordChanges&,
                                const JournalStep* step);
  void noted(const JournalNote&);
  result<pb::JournalUndo> undo_record(uint64_t number) const;
  Error storage_error(const leveldb::Status&, const std::string& what) const;
  // The one place that changes records once the store is open. `sequence` is in the batch.
  result<void> write(leveldb::WriteBatch&, Sequence);
  result<std::optional<std::string>> read(const std::string& key) const;

  const Options options;
  LevelDbEnv env;
  std::unique_ptr<leveldb::Cache> cache;
  std::unique_ptr<const leveldb::FilterPolicy> bloom;
  std::unique_ptr<leveldb::DB> db;

  mutable std::mutex mutex;
  std::condition_variable wake;
  Sequence sequence = 0;           // last committed
  Sequence durable = 0;            // survives a power cut
  uint64_t rewinds = 0;            // times that the sequence went back
  MonotonicTime unsynced_since{};  // of the oldest commit above `durable`
  std::optional<Error> failed;     // first failure: nothing is committed after it
  std::vector<Waiter> waiters;
  // When the sync thread looks by itself, and so need not be woken for what may wait until then.
  MonotonicTime looks_at = MonotonicTime::min();
  bool stop = false;
  std::thread syncer;

  // Of the service thread alone.
  bool journaled = false;
  std::deque<uint64_t> undo_numbers;  // of undo records, ascending; as many as are not committed
  journal::LogPosition position;      // record 'A' "journal_position"
  // What was read since the last change: a transaction has read most of what it changes.
  static constexpr size_t kRecentMax = 64;
  std::unordered_map<std::string, std::optional<std::string>> recent;
};

}  // namespace datacloud
