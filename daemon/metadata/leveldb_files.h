// The files LevelDB writes and reads, over a FileLayer. Included by leveldb_env.cc only, which is
// compiled without RTTI.
//
// Writers buffer until Flush, Sync or a full buffer, as LevelDB asks; Flush hands everything to the
// operating system, so that a committed batch survives the process.
#pragma once

#include <leveldb/env.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/base/error.h"
#include "common/base/file_layer.h"

namespace datacloud::ldb {

inline constexpr size_t kWriteBufferBytes = 65536;

inline std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

inline leveldb::Status to_status(const Error& e) {
  if (e.is(Errc::not_found) || e.errno_value() == ENOENT) {
    return leveldb::Status::NotFound(e.text());
  }
  return leveldb::Status::IOError(e.message());
}
inline leveldb::Status to_status(const result<void>& r) {
  return r ? leveldb::Status::OK() : to_status(r.error());
}

// A log LevelDB is writing. `second` is another handle of the same file, for sync_log.
struct OpenLog {
  std::unique_ptr<File> second;
  std::string directory;
  std::mutex sync_mutex;  // held while syncing through `second`
  bool named = false;     // under sync_mutex: the directory entry is durable
};

// State shared by the environment and its open files.
struct Shared {
  std::shared_ptr<FileLayer> files;
  std::mutex mutex;
  std::vector<std::shared_ptr<OpenLog>> logs;  // open, oldest first (two during a log switch)
  std::optional<Error> failed;                 // first failure of a log
  std::optional<Error> change_failed;          // first failure of any change, for its errno
  bool lock_held = false;                      // the last attempt to lock met another holder

  result<void> check() {
    std::lock_guard lock(mutex);
    if (failed) return failure(*failed);
    return success();
  }
  result<void> note_log(result<void> r) {
    if (!r) {
      std::lock_guard lock(mutex);
      if (!failed) failed = r.error();
      if (!change_failed) change_failed = r.error();
    }
    return r;
  }
  template <class T>
  result<T> note_change(result<T> r) {
    if (!r) {
      std::lock_guard lock(mutex);
      if (!change_failed) change_failed = r.error();
    }
    return r;
  }
};

// A table, MANIFEST or CURRENT's temporary file.
class TableFile final : public leveldb::WritableFile {
 public:
  TableFile(std::shared_ptr<Shared> shared, std::string path, std::unique_ptr<File> file)
      : shared_(std::move(shared)),
        path_(std::move(path)),
        file_(std::move(file)),
        named_(path_.ends_with(".dbtmp")) {}  // is renamed at once, which syncs the directory
  ~TableFile() override {
    if (file_) (void)close();
  }

  leveldb::Status Append(const leveldb::Slice& data) override {
    dirty_ = true;
    buffer_.insert(buffer_.end(), data.data(), data.data() + data.size());
    if (buffer_.size() < kWriteBufferBytes) return leveldb::Status::OK();
    return to_status(flush());
  }
  leveldb::Status Flush() override { return to_status(flush()); }
  leveldb::Status Sync() override { return to_status(sync()); }
  leveldb::Status Close() override { return to_status(close()); }

 private:
  result<void> flush() {
    if (buffer_.empty()) return success();
    auto written = shared_->note_change(file_->append(buffer_));
    buffer_.clear();
    return written;
  }
  result<void> sync() {
    TRY(flush());
    TRY(shared_->note_change(file_->sync()));
    if (!named_) {
      TRY(shared_->files->sync_directory(directory_of(path_)));
    }
    named_ = true;
    dirty_ = false;
    return success();
  }
  result<void> close() {
    auto done = dirty_ ? sync() : result<void>(success());
    file_.reset();
    return done;
  }

  const std::shared_ptr<Shared> shared_;
  const std::string path_;
  std::unique_ptr<File> file_;
  Bytes buffer_;
  bool dirty_ = false;
  bool named_;  // the directory entry is durable
};

// A log. LevelDB destroys it at a log switch without closing or syncing, and cannot be told of a
// failure then: the failure is kept in Shared and meets the next write.
class LogFile final : public leveldb::WritableFile {
 public:
  LogFile(std::shared_ptr<Shared> shared, std::unique_ptr<File> file, std::shared_ptr<OpenLog> log)
      : shared_(std::move(shared)), file_(std::move(file)), log_(std::move(log)) {}
  ~LogFile() override { (void)close(); }

  leveldb::Status Append(const leveldb::Slice& data) override {
    dirty_ = true;
    buffer_.insert(buffer_.end(), data.data(), data.data() + data.size());
    if (buffer_.size() < kWriteBufferBytes) return leveldb::Status::OK();
    return to_status(flush());
  }
  leveldb::Status Flush() override { return to_status(flush()); }
  leveldb::Status Sync() override { return to_status(sync()); }
  leveldb::Status Close() override { return to_status(close()); }

  static result<void> sync_open_log(FileLayer& files, OpenLog& log) {
    std::lock_guard lock(log.sync_mutex);
    TRY(log.second->sync());
    if (!log.named) {
      TRY(files.sync_directory(log.directory));
    }
    log.named = true;
    return success();
  }

 private:
  result<void> flush() {
    TRY(shared_->check());
    if (buffer_.empty()) return success();
    auto written = shared_->note_log(file_->append(buffer_));
    buffer_.clear();
    return written;
  }
  result<void> sync() {
    TRY(flush());
    TRY(shared_->note_log(sync_open_log(*shared_->files, *log_)));
    dirty_ = false;
    return success();
  }
  result<void> close() {
    if (!file_) return success();
    auto done = dirty_ ? sync() : result<void>(success());
    file_.reset();
    std::lock_guard lock(shared_->mutex);
    std::erase(shared_->logs, log_);
    return done;
  }

  const std::shared_ptr<Shared> shared_;
  std::unique_ptr<File> file_;
  const std::shared_ptr<OpenLog> log_;
  Bytes buffer_;
  bool dirty_ = false;
};

class RandomFile final : public leveldb::RandomAccessFile {
 public:
  explicit RandomFile(std::unique_ptr<File> file) : file_(std::move(file)) {}
  leveldb::Status Read(uint64_t offset, size_t n, leveldb::Slice* out,
                       char* scratch) const override {
    auto got = file_->pread(offset, {reinterpret_cast<uint8_t*>(scratch), n});
    *out = leveldb::Slice(scratch, got ? got.value() : 0);
    return got ? leveldb::Status::OK() : to_status(got.error());
  }

 private:
  const std::unique_ptr<File> file_;
};

// A small file read as a whole.
class MemoryFile final : public leveldb::SequentialFile {
 public:
  explicit MemoryFile(Bytes bytes) : bytes_(std::move(bytes)) {}
  leveldb::Status Read(size_t n, leveldb::Slice* out, char* scratch) override {
    n = std::min(n, bytes_.size() - at_);
    std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(at_), n, scratch);
    at_ += n;
    *out = leveldb::Slice(scratch, n);
    return leveldb::Status::OK();
  }
  leveldb::Status Skip(uint64_t n) override {
    at_ += std::min<uint64_t>(n, bytes_.size() - at_);
    return leveldb::Status::OK();
  }

 private:
  const Bytes bytes_;
  size_t at_ = 0;
};

}  // namespace datacloud::ldb
