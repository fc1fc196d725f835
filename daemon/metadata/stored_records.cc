// Reading LevelDB (stored_records.h).
#include "daemon/metadata/stored_records.h"

#include <leveldb/iterator.h>

#include <string_view>
#include <utility>

namespace datacloud {
namespace {

class StoredCursor final : public RecordCursor {
 public:
  explicit StoredCursor(std::unique_ptr<leveldb::Iterator> iterator)
      : iterator_(std::move(iterator)) {}
  void first(const std::string& begin, const std::string& end) override {
    bound_ = end;
    up_ = true;
    iterator_->Seek(slice(begin));
    look();
  }
  void last(const std::string& begin, const std::string& end) override {
    bound_ = begin;
    up_ = false;
    iterator_->Seek(slice(end));
    if (iterator_->Valid()) {
      iterator_->Prev();
    } else if (iterator_->status().ok()) {
      iterator_->SeekToLast();
    }
    look();
  }
  bool valid() const override { return valid_; }
  void next() override {
    up_ ? iterator_->Next() : iterator_->Prev();
    look();
  }
  std::string_view key() const override { return text(iterator_->key()); }
  std::string_view value() const override { return text(iterator_->value()); }
  result<void> status() const override {
    const leveldb::Status s = iterator_->status();
    if (s.ok()) return success();
    return failure(s.IsCorruption() ? Errc::corrupt : Errc::io,
                   "metadata store: " + s.ToString() + "; stop the daemon and check its disk");
  }

 private:
  static std::string_view text(const leveldb::Slice& s) { return {s.data(), s.size()}; }
  void look() { valid_ = iterator_->Valid() && (up_ ? key() < bound_ : key() >= bound_); }

  const std::unique_ptr<leveldb::Iterator> iterator_;
  std::string bound_;  // going up: the range's end; down: its begin
  bool up_ = true, valid_ = false;
};

class StoredView final : public MetadataView {
 public:
  StoredView(leveldb::DB& db, Sequence sequence)
      : db_(db), snapshot_(db.GetSnapshot()), sequence_(sequence) {}
  ~StoredView() override { db_.ReleaseSnapshot(snapshot_); }
  StoredView(const StoredView&) = delete;
  StoredView& operator=(const StoredView&) = delete;

  result<std::optional<std::string>> read(const std::string& key) const override {
    std::string value;
    const leveldb::Status s = db_.Get(options(), slice(key), &value);
    if (s.ok()) return std::optional<std::string>(std::move(value));
    if (s.IsNotFound()) return std::optional<std::string>();
    return failure(s.IsCorruption() ? Errc::corrupt : Errc::io,
                   "metadata store: " + s.ToString() + "; stop the daemon and check its disk");
  }
  std::shared_ptr<RecordCursor> cursor() const override {
    return make_stored_cursor(db_, options());
  }
  Sequence sequence() const override { return sequence_; }

 private:
  leveldb::ReadOptions options() const {
    leveldb::ReadOptions options = checked_read();
    options.snapshot = snapshot_;
    return options;
  }

  leveldb::DB& db_;
  const leveldb::Snapshot* const snapshot_;
  const Sequence sequence_;
};

}  // namespace

leveldb::ReadOptions checked_read() {
  leveldb::ReadOptions options;
  options.verify_checksums = true;
  return options;
}

std::shared_ptr<RecordCursor> make_stored_cursor(leveldb::DB& db,
                                                 const leveldb::ReadOptions& options) {
  return std::make_shared<StoredCursor>(
      std::unique_ptr<leveldb::Iterator>(db.NewIterator(options)));
}

std::shared_ptr<const MetadataView> make_stored_view(leveldb::DB& db, Sequence sequence) {
  return std::make_shared<StoredView>(db, sequence);
}

}  // namespace datacloud
