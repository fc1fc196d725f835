// The daemon's materialised view: records in LevelDB, changed only by transactions.
//
// Every metadata change is one Transaction through MetadataStore::commit, which gives it a sequence
// number and applies it as one LevelDB batch. A committed transaction is visible and survives
// kill -9 at once; when_durable() says when it (and all before it) survive a power cut: one
// thread syncs the log for everybody who waits (group commit). A journal across the sites will
// take the place of that sync.
//
// LevelDB runs over LevelDbEnv, which makes every change through a FileLayer and syncs a log file
// before it is closed: LevelDB itself does not, and a synced batch in a new log would otherwise
// survive an unsynced one in the old.
//
// Threads: begin, get, scan, commit and view on the service thread only; what view() gives, on any.
// when_durable callbacks run on the sync thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "common/base/error.h"
#include "common/base/file_layer.h"
#include "common/base/ids.h"
#include "common/proto/records.pb.h"
#include "daemon/metadata/record_view.h"

namespace datacloud {

class RecordSnapshot;

// Cloud.format_version. Programs from before there were features know only the first.
inline constexpr uint32_t kMetadataFormatVersion = 1;
inline constexpr uint32_t kMetadataFormatFeatures = 2;  // with a record of features in use

// The store could not write for a reason of its directory, not of its medium: no room, read-only,
// no permission. What has been committed is whole, and reading goes on.
bool cannot_write(const Error&);

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
  // `features`: what the cloud uses from the beginning; without any its format is 1.
  static result<void> create(Options, const pb::Cloud&, uint32_t root_uid, uint32_t root_gid,
                             const pb::Features& features = {});
  ~MetadataStore() override;

  Transaction begin() const { return Transaction(*this); }
  // What is committed now, to be read on any thread. See record_snapshot.h.
  std::unique_ptr<RecordSnapshot> snapshot() const;
  std::shared_ptr<const MetadataView> view() const;
  result<Sequence> commit(Transaction&&);
  Sequence sequence() const override;
  void when_durable(Sequence, std::function<void(result<void>)>);
  result<void> wait_durable(Sequence);  // blocking form

 private:
  struct Impl;
  result<std::optional<std::string>> read(const std::string& key) const override;
  std::shared_ptr<RecordCursor> cursor() const override;
  void sync_loop();
  explicit MetadataStore(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl_;
};

}  // namespace datacloud
