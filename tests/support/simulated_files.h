// A disk in memory that forgets what was not fsynced, for tests of everything over a FileLayer.
//
// It keeps two states: what running programs see (the page cache) and what is on the platter.
//   * File contents reach the platter by File::sync, or by write_at of a file that was opened with
//     Open::write_through, which brings that range there. At a power cut, what was written since is
//     kept, lost or torn: any length between old and new, each 512-byte sector new or as it was
//     (zero beyond the old end), each independently.
//   * Names (create, link, rename, unlink, mkdir, rmdir) reach it by sync_directory of the
//     directory they are in. At a power cut each change since is kept or lost, independently of
//     the others and of their order. A rename may leave the old name, the new one, or both, never
//     neither.
//   * Syncing a file makes neither its name nor its directory durable.
//
// Everything a cut decides comes from its seed. Call numbers count from construction, so that a run
// of a single-threaded program can be repeated with the power failing at each call, or with any one
// sync ignored. After a cut, handles from before it fail with EIO. Thread safety: as FileLayer.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "common/base/file_layer.h"

namespace datacloud {

class SimulatedFiles final : public FileLayer {
 public:
  enum class Call {
    open,
    append,
    write_at,
    pread,
    sync,
    size,
    stat,
    make_directory,
    remove_directory,
    unlink,
    rename,
    link,
    sync_directory,
    list,
    lock,
    space
  };
  // Returns an errno to fail a call with, or 0. Called with the disk locked.
  using FailureRule = std::function<int(Call, const std::string& path)>;

  SimulatedFiles();  // an empty "/", all paths absolute
  ~SimulatedFiles() override;

  // Changing calls (create, append, names, syncs) made so far; syncs of files and directories.
  uint64_t change_count() const;
  uint64_t sync_count() const;
  // "file PATH" or "directory PATH" for each sync so far.
  std::vector<std::string> sync_log() const;

  // The changing call with this number and every call after it fail with EIO until power_cut. That
  // call itself takes effect in the page cache (syncs excepted): whether it happened is open.
  void fail_power_at(uint64_t change);
  // Success without effect for the sync with this number. nullopt: none (the default).
  void ignore_sync(std::optional<uint64_t> sync);
  void set_failure_rule(FailureRule);

  // Loses what the platter does not have, as the seed says, and turns the power on again.
  void power_cut(uint64_t seed);

  // Changes bytes behind everybody's back, in both states; false when there is no such file.
  bool overwrite(const std::string& path, Bytes contents);

  result<std::unique_ptr<File>> open(const std::string& path, Open) override;
  result<Stat> stat(const std::string& path) override;
  result<void> make_directory(const std::string& path) override;
  result<void> remove_directory(const std::string& path) override;
  result<void> unlink(const std::string& path) override;
  result<void> rename(const std::string& from, const std::string& to) override;
  result<void> link(const std::string& from, const std::string& to) override;
  result<void> sync_directory(const std::string& path) override;
  result<std::vector<std::string>> list(const std::string& path) override;
  result<void> lock(const std::string& path, std::unique_ptr<File>& held) override;
  result<Space> space(const std::string& path) override;

 private:
  friend class SimulatedFile;
  struct Node;
  using NodePtr = std::shared_ptr<Node>;
  // One change of one name, not yet on the platter.
  struct NameChange {
    uint64_t id;
    NodePtr directory;
    std::string name;
    NodePtr target;      // null: the name goes
    uint64_t after = 0;  // never on the platter without that change (the two halves of a rename)
  };
  struct Place {
    NodePtr directory;
    std::string name;
  };

  // All with mutex_ held.
  result<void> enter(Call, const std::string& path);
  result<void> leave_change(const std::string& path);  // after taking effect
  result<Place> place_of(const std::string& path) const;
  result<NodePtr> find(const std::string& path) const;
  NodePtr make_node(bool directory);
  uint64_t change_name(const NodePtr& directory, const std::string& name, NodePtr target,
                       uint64_t after = 0);
  bool counts_as_sync(const std::string& what);
  void flush_names(const NodePtr& directory);
  void flush_change(std::list<NameChange>::iterator);
  void lose_names(std::mt19937_64&);
  void lose_contents(std::mt19937_64&);

  mutable std::mutex mutex_;
  NodePtr root_;
  std::list<NameChange> pending_;
  std::set<const Node*> locked_;
  uint64_t next_inode_ = 1;
  uint64_t next_change_ = 1;
  uint64_t generation_ = 0;  // power cuts so far
  uint64_t changes_ = 0;
  std::optional<uint64_t> fail_at_;
  bool power_off_ = false;
  std::optional<uint64_t> ignored_sync_;
  std::vector<std::string> syncs_;
  FailureRule rule_;
};

}  // namespace datacloud
