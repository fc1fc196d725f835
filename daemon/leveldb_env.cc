// LevelDB's file operations over a FileLayer; see the header for what is kept beyond LevelDB's own.
//
// Compiled without RTTI, as LevelDB may be: nothing here throws, and only plain values and
// LevelDB's own types cross to the rest of the program.
#include "daemon/leveldb_env.h"

#include <leveldb/env.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "daemon/log_prefix.h"

namespace datacloud {
namespace {

constexpr size_t kWriteBufferBytes = 65536;

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string_view file_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

// The number of "000012.log", nullopt for every other name.
std::optional<uint64_t> log_number(std::string_view name) {
  if (!name.ends_with(".log")) return std::nullopt;
  uint64_t number = 0;
  const char* end = name.data() + name.size() - 4;
  const auto [stop, error] = std::from_chars(name.data(), end, number);
  if (error != std::errc() || stop != end) return std::nullopt;
  return number;
}

leveldb::Status to_status(const Error& e) {
  if (e.is(Errc::not_found) || e.errno_value() == ENOENT) {
    return leveldb::Status::NotFound(e.text());
  }
  return leveldb::Status::IOError(e.message());
}
leveldb::Status to_status(const result<void>& r) {
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
    auto written = file_->append(buffer_);
    buffer_.clear();
    return written;
  }
  result<void> sync() {
    TRY(flush());
    TRY(file_->sync());
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

class HeldLock final : public leveldb::FileLock {
 public:
  std::unique_ptr<File> file;
};

class SilentLogger final : public leveldb::Logger {
 public:
  void Logv(const char*, std::va_list) override {}
};

result<Bytes> read_whole(FileLayer& files, const std::string& path) {
  TRY(auto file, files.open(path, FileLayer::Open::read));
  TRY(const uint64_t size, file->size());
  Bytes bytes(size);
  size_t at = 0;
  while (at < bytes.size()) {
    TRY(const size_t got, file->pread(at, MutableByteView(bytes).subspan(at)));
    if (got == 0) break;
    at += got;
  }
  bytes.resize(at);
  return bytes;
}

// True when a log after this one holds anything.
result<bool> has_written_successor(FileLayer& files, const std::string& path) {
  const auto own = log_number(file_name(path));
  if (!own) return false;
  const std::string directory = directory_of(path);
  TRY(auto names, files.list(directory));
  for (const auto& name : names) {
    const auto number = log_number(name);
    if (!number || *number <= *own) continue;
    TRY(auto stat, files.stat(directory + "/" + name));
    if (stat.size > 0) return true;
  }
  return false;
}

class Environment final : public leveldb::EnvWrapper {
 public:
  explicit Environment(std::shared_ptr<Shared> shared)
      : EnvWrapper(leveldb::Env::Default()), shared_(std::move(shared)) {}

  leveldb::Status NewSequentialFile(const std::string& path,
                                    leveldb::SequentialFile** out) override {
    *out = nullptr;
    auto bytes = read_whole(files(), path);
    if (!bytes) return to_status(bytes.error());
    const bool log = log_number(file_name(path)).has_value();
    if (log || file_name(path).starts_with("MANIFEST-")) {
      const LogPrefix prefix = valid_log_prefix(bytes.value());
      if (log && !prefix.whole) {
        auto later = has_written_successor(files(), path);
        if (!later) return to_status(later.error());
        if (later.value()) {
          return leveldb::Status::Corruption(path + ": a record is damaged after byte " +
                                             std::to_string(prefix.bytes));
        }
      }
      bytes.value().resize(prefix.bytes);
    }
    *out = new MemoryFile(std::move(bytes.value()));
    return leveldb::Status::OK();
  }

  leveldb::Status NewRandomAccessFile(const std::string& path,
                                      leveldb::RandomAccessFile** out) override {
    *out = nullptr;
    auto file = files().open(path, FileLayer::Open::read);
    if (!file) return to_status(file.error());
    *out = new RandomFile(std::move(file.value()));
    return leveldb::Status::OK();
  }

  leveldb::Status NewWritableFile(const std::string& path, leveldb::WritableFile** out) override {
    *out = nullptr;
    auto file = files().open(path, FileLayer::Open::truncate);
    if (!file) return to_status(file.error());
    if (!log_number(file_name(path))) {
      *out = new TableFile(shared_, path, std::move(file.value()));
      return leveldb::Status::OK();
    }
    auto second = files().open(path, FileLayer::Open::append);
    if (!second) return to_status(second.error());
    auto log = std::make_shared<OpenLog>();
    log->second = std::move(second.value());
    log->directory = directory_of(path);
    {
      std::lock_guard lock(shared_->mutex);
      shared_->logs.push_back(log);
    }
    *out = new LogFile(shared_, std::move(file.value()), std::move(log));
    return leveldb::Status::OK();
  }

  leveldb::Status NewAppendableFile(const std::string& path, leveldb::WritableFile** out) override {
    *out = nullptr;
    return leveldb::Status::NotSupported("files are never appended to after a restart", path);
  }

  bool FileExists(const std::string& path) override { return files().stat(path).has_value(); }

  leveldb::Status GetChildren(const std::string& path, std::vector<std::string>* out) override {
    auto names = files().list(path);
    if (!names) return to_status(names.error());
    *out = std::move(names.value());
    return leveldb::Status::OK();
  }

  leveldb::Status RemoveFile(const std::string& path) override {
    return to_status(files().unlink(path));
  }

  // The store has made the directory and synced its name before (MetadataStore::create).
  leveldb::Status CreateDir(const std::string& path) override {
    return to_status(files().make_directory(path));
  }

  leveldb::Status RemoveDir(const std::string& path) override {
    return to_status(files().remove_directory(path));
  }

  leveldb::Status GetFileSize(const std::string& path, uint64_t* size) override {
    auto stat = files().stat(path);
    *size = stat ? stat.value().size : 0;
    return stat ? leveldb::Status::OK() : to_status(stat.error());
  }

  leveldb::Status RenameFile(const std::string& from, const std::string& to) override {
    auto moved = files().rename(from, to);
    if (moved) moved = files().sync_directory(directory_of(to));
    return to_status(moved);
  }

  leveldb::Status LockFile(const std::string& path, leveldb::FileLock** out) override {
    *out = nullptr;
    auto held = std::make_unique<HeldLock>();
    if (auto locked = files().lock(path, held->file); !locked) {
      std::lock_guard lock(shared_->mutex);
      shared_->lock_held = locked.error().errno_value() == EWOULDBLOCK;
      return to_status(locked.error());
    }
    *out = held.release();
    return leveldb::Status::OK();
  }

  leveldb::Status UnlockFile(leveldb::FileLock* lock) override {
    delete lock;
    return leveldb::Status::OK();
  }

  leveldb::Status NewLogger(const std::string&, leveldb::Logger** out) override {
    *out = new SilentLogger;
    return leveldb::Status::OK();
  }

 private:
  FileLayer& files() { return *shared_->files; }
  const std::shared_ptr<Shared> shared_;
};

}  // namespace

struct LevelDbEnv::Impl {
  explicit Impl(std::shared_ptr<Shared> s) : shared(std::move(s)), environment(shared) {}
  std::shared_ptr<Shared> shared;
  Environment environment;
  SilentLogger logger;
};

LevelDbEnv::LevelDbEnv(std::shared_ptr<FileLayer> files) {
  auto shared = std::make_shared<Shared>();
  shared->files = std::move(files);
  impl_ = std::make_unique<Impl>(std::move(shared));
}
LevelDbEnv::~LevelDbEnv() = default;

leveldb::Env* LevelDbEnv::env() { return &impl_->environment; }
leveldb::Logger* LevelDbEnv::logger() { return &impl_->logger; }

result<void> LevelDbEnv::sync_log() {
  Shared& shared = *impl_->shared;
  TRY(shared.check());
  std::vector<std::shared_ptr<OpenLog>> logs;
  {
    std::lock_guard lock(shared.mutex);
    logs = shared.logs;
  }
  for (const auto& log : logs) {
    TRY(shared.note_log(LogFile::sync_open_log(*shared.files, *log)));
  }
  return shared.check();  // a log that closed meanwhile may have failed
}

bool LevelDbEnv::lock_is_held() const {
  std::lock_guard lock(impl_->shared->mutex);
  return impl_->shared->lock_held;
}

}  // namespace datacloud
