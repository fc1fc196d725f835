// The committed records as they were at one moment, for work that reads very many of them: fsck.
//
// May be used on another thread than the store's, and while the store changes: what is seen does
// not. Holds back LevelDB's clean-up of what it still sees, so it is not kept for longer than a
// check takes. Memory: a few blocks per cursor. The store must outlive it.
#pragma once

#include <leveldb/db.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/error.h"

namespace datacloud {

class RecordSnapshot {
 public:
  explicit RecordSnapshot(leveldb::DB& db) : db_(db), snapshot_(db.GetSnapshot()) {}
  ~RecordSnapshot() { db_.ReleaseSnapshot(snapshot_); }
  RecordSnapshot(const RecordSnapshot&) = delete;
  RecordSnapshot& operator=(const RecordSnapshot&) = delete;

  // Goes over the records with first <= key < end, in order. Views hold until the next call.
  class Cursor {
   public:
    bool valid() const { return iterator_->Valid() && key() < end_; }
    std::string_view key() const { return {iterator_->key().data(), iterator_->key().size()}; }
    std::string_view value() const {
      return {iterator_->value().data(), iterator_->value().size()};
    }
    void next() { iterator_->Next(); }
    void seek(const std::string& key) { iterator_->Seek(key); }
    // To be asked when it is no longer valid: was that the end, or damage?
    result<void> status() const;

   private:
    friend class RecordSnapshot;
    std::unique_ptr<leveldb::Iterator> iterator_;
    std::string end_;
  };
  Cursor scan(const std::string& first, const std::string& end) const;
  // All records whose keys begin with `prefix`.
  Cursor scan_all(char prefix) const;
  result<std::optional<std::string>> get(const std::string& key) const;
  // Parses; false when there is no such record, or it does not parse.
  template <class Message>
  result<bool> get(const std::string& key, Message& message) const {
    TRY(const auto value, get(key));
    return value && message.ParseFromString(*value);
  }

 private:
  leveldb::ReadOptions options() const;

  leveldb::DB& db_;
  const leveldb::Snapshot* const snapshot_;
};

}  // namespace datacloud
