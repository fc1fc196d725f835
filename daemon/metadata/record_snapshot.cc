// Reads that leave LevelDB's cache to the daemon's own.
#include "daemon/metadata/record_snapshot.h"

#include "daemon/metadata/record_keys.h"

namespace datacloud {
namespace {

Error storage_error(const leveldb::Status& status) {
  return Error(status.IsCorruption() ? Errc::corrupt : Errc::io,
               "the metadata store cannot be read: " + status.ToString() +
                   "; check the disk, or put the state directory back from its backup");
}

}  // namespace

leveldb::ReadOptions RecordSnapshot::options() const {
  leveldb::ReadOptions options;
  options.verify_checksums = true;
  options.fill_cache = false;
  options.snapshot = snapshot_;
  return options;
}

RecordSnapshot::Cursor RecordSnapshot::scan(const std::string& first,
                                            const std::string& end) const {
  Cursor cursor;
  cursor.iterator_.reset(db_.NewIterator(options()));
  cursor.end_ = end;
  cursor.seek(first);
  return cursor;
}

RecordSnapshot::Cursor RecordSnapshot::scan_all(char prefix) const {
  const std::string first(1, prefix);
  return scan(first, key::after_prefix(first));
}

result<void> RecordSnapshot::Cursor::status() const {
  if (iterator_->status().ok()) return success();
  return failure(storage_error(iterator_->status()));
}

result<std::optional<std::string>> RecordSnapshot::get(const std::string& key) const {
  std::string value;
  leveldb::ReadOptions with_cache = options();
  with_cache.fill_cache = true;  // neighbours are asked for next
  const leveldb::Status status = db_.Get(with_cache, key, &value);
  if (status.ok()) return std::optional<std::string>(std::move(value));
  if (status.IsNotFound()) return std::optional<std::string>();
  return failure(storage_error(status));
}

}  // namespace datacloud
