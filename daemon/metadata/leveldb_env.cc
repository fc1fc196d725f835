// LevelDB's file operations over a FileLayer; see the header for what is kept beyond LevelDB's own.
//
// Compiled without RTTI, as LevelDB may be: nothing here throws, and only plain values and
// LevelDB's own types cross to the rest of the program.
#include "daemon/metadata/leveldb_env.h"

#include <leveldb/env.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "daemon/metadata/leveldb_files.h"
#include "daemon/metadata/log_prefix.h"

namespace datacloud {
namespace {

using namespace ldb;

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
    auto file = shared_->note_change(files().open(path, FileLayer::Open::truncate));
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
    auto moved = shared_->note_change(files().rename(from, to));
    if (moved) moved = files().sync_directory(directory_of(to));
    return to_status(moved);
  }

  leveldb::Status LockFile(const std::string& path, leveldb::FileLock** out) override {
    *out = nullptr;
    auto held = std::make_unique<HeldLock>();
    if (auto locked = shared_->note_change(files().lock(path, held->file)); !locked) {
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

std::optional<Error> LevelDbEnv::change_failure() const {
  std::lock_guard lock(impl_->shared->mutex);
  return impl_->shared->change_failed;
}

bool LevelDbEnv::lock_is_held() const {
  std::lock_guard lock(impl_->shared->mutex);
  return impl_->shared->lock_held;
}

}  // namespace datacloud
