// A FileLayer that drops the syncs of one kind: what LevelDbEnv and MetadataStore sync, by purpose.
//
// A directory sync belongs to what its thread did last: the sync of a new file or a rename.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "common/base/file_layer.h"

namespace datacloud {

enum class SyncKind {
  none,
  log,            // by the sync thread, for when_durable
  log_at_switch,  // by the writer, when a log is left for the next
  log_name,
  table,
  table_name,
  manifest,
  manifest_name,
  current,       // CURRENT's temporary file
  current_name,  // after the rename to CURRENT
  store_name,    // the store's directory in its parent, by create
};
inline constexpr std::array kSyncKinds = {
    SyncKind::log,          SyncKind::log_at_switch, SyncKind::log_name,      SyncKind::table,
    SyncKind::table_name,   SyncKind::manifest,      SyncKind::manifest_name, SyncKind::current,
    SyncKind::current_name, SyncKind::store_name};
inline constexpr std::array kSyncKindNames = {
    "none",     "log",           "log_at_switch", "log_name",     "table",     "table_name",
    "manifest", "manifest_name", "current",       "current_name", "store_name"};

class ChosenSyncs final : public FileLayer {
 public:
  ChosenSyncs(std::shared_ptr<FileLayer> below, SyncKind dropped)
      : below_(std::move(below)), dropped_(dropped), writer_(std::this_thread::get_id()) {}

  uint64_t count(SyncKind kind) const { return seen_[static_cast<size_t>(kind)]; }

  result<std::unique_ptr<File>> open(const std::string& path, Open how) override {
    TRY(auto file, below_->open(path, how));
    return std::unique_ptr<File>(new ChosenFile(*this, std::move(file), path));
  }
  result<Stat> stat(const std::string& path) override { return below_->stat(path); }
  result<void> make_directory(const std::string& path) override {
    last_ = SyncKind::store_name;
    return below_->make_directory(path);
  }
  result<void> remove_directory(const std::string& path) override {
    return below_->remove_directory(path);
  }
  result<void> unlink(const std::string& path) override { return below_->unlink(path); }
  result<void> rename(const std::string& from, const std::string& to) override {
    last_ = SyncKind::current_name;
    return below_->rename(from, to);
  }
  result<void> link(const std::string& from, const std::string& to) override {
    return below_->link(from, to);
  }
  result<void> sync_directory(const std::string& path) override {
    if (drops(last_)) return success();
    return below_->sync_directory(path);
  }
  result<std::vector<std::string>> list(const std::string& path) override {
    return below_->list(path);
  }
  result<void> lock(const std::string& path, std::unique_ptr<File>& held) override {
    return below_->lock(path, held);
  }
  result<Space> space(const std::string& path) override { return below_->space(path); }

 private:
  class ChosenFile final : public File {
   public:
    ChosenFile(ChosenSyncs& layer, std::unique_ptr<File> below, std::string path)
        : layer_(layer), below_(std::move(below)), path_(std::move(path)) {}
    result<void> append(ByteView data) override { return below_->append(data); }
    result<size_t> pread(uint64_t offset, MutableByteView out) override {
      return below_->pread(offset, out);
    }
    result<void> sync() override {
      const SyncKind kind = layer_.kind_of(path_);
      last_ = name_of(kind);
      if (layer_.drops(kind)) return success();
      return below_->sync();
    }
    result<uint64_t> size() override { return below_->size(); }

   private:
    ChosenSyncs& layer_;
    const std::unique_ptr<File> below_;
    const std::string path_;
  };

  SyncKind kind_of(const std::string& path) const {
    if (path.ends_with(".ldb")) return SyncKind::table;
    if (path.ends_with(".dbtmp")) return SyncKind::current;
    if (!path.ends_with(".log")) return SyncKind::manifest;
    return std::this_thread::get_id() == writer_ ? SyncKind::log_at_switch : SyncKind::log;
  }
  static SyncKind name_of(SyncKind file) {
    switch (file) {
      case SyncKind::table:
        return SyncKind::table_name;
      case SyncKind::manifest:
        return SyncKind::manifest_name;
      default:
        return SyncKind::log_name;
    }
  }
  bool drops(SyncKind kind) {
    ++seen_[static_cast<size_t>(kind)];
    return kind == dropped_;
  }

  static inline thread_local SyncKind last_ = SyncKind::none;
  const std::shared_ptr<FileLayer> below_;
  const SyncKind dropped_;
  const std::thread::id writer_;
  std::array<std::atomic<uint64_t>, kSyncKindNames.size()> seen_{};
};

}  // namespace datacloud
