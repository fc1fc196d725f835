// The commands of `datacloud`, one per file command_NAME.cc. Each returns an exit code
// (exit_codes.h), prints its answer to stdout and failures to stderr.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "common/base/error.h"

namespace datacloud {

struct CommandContext {
  std::filesystem::path config;
  bool json = false;
};

struct CreateOptions {
  std::string features = "all";  // or "none", or names with commas between them
  bool journal = false;          // at all sites
  bool accept_weaker = false;    // a journal that survives less than files do
  bool finish = false;           // sites that other machines serve now are formatted
};
int run_create(const CommandContext&, const CreateOptions&);
int run_create_finish(const CommandContext&, const CreateOptions&);
int run_journal_status(const CommandContext&);
// No sites: all.
int run_journal_enable(const CommandContext&, const std::vector<std::string>& sites,
                       bool accept_weaker);
int run_journal_checkpoint(const CommandContext&);
int run_journal_audit(const CommandContext&);
int run_leader_show(const CommandContext&);
int run_leader_move(const CommandContext&, const std::string& name);
int run_leader_forget(const CommandContext&, const std::string& name);
struct RecoverOptions {
  bool dry_run = false;
  std::optional<uint64_t> to;  // a sequence of the journal; none: all there is
  std::string surviving;       // a site whose log alone is taken; empty: a quorum's
  bool know = false;           // --i-know
};
int run_recover(const CommandContext&, const RecoverOptions&);
int run_feature_list(const CommandContext&);
int run_feature_enable(const CommandContext&, const std::vector<std::string>& names, bool all);
// The same of one, without a word.
result<void> enable_feature(const CommandContext&, const std::string& name);
int run_tree_create(const CommandContext&, const std::string& path);
int run_tree_remove(const CommandContext&, const std::string& path);
int run_tree_show(const CommandContext&, const std::string& path);
int run_tree_list(const CommandContext&);
// interval_s > 0: again and again, until interrupted or `rounds` times (0: no end).
struct WatchOptions {
  bool watch = false;
  double interval_s = 2;
  uint64_t rounds = 0;
};
int run_status(const CommandContext&, const WatchOptions&);
int run_top(const CommandContext&, const WatchOptions&);
int run_locate(const CommandContext&, const std::string& path, bool stripes);
// What all mounts change below a path, as inotifywait(1).
struct ChangeOptions {
  std::string path;
  std::vector<std::string> events;  // none: all
  bool recursive = false, monitor = false, quiet = false;
  double timeout_s = 0;  // 0: none
};
// Ends with 2 at the time-out, as inotifywait.
int run_watch(const CommandContext&, ChangeOptions);
struct CloneOptions {
  std::string source, target;
  bool force = false;         // takes the place of a target that exists
  bool copy_allowed = false;  // what cannot be shared is copied
};
int run_clone(const CommandContext&, const CloneOptions&);
int run_traffic(const CommandContext&, bool reset);
int run_gc(const CommandContext&, bool wait);
// `plan`: how repairs are planned from now on; empty: as they are.
int run_repair(const CommandContext&, bool wait, bool scrub, std::string plan);
struct AuditOptions {
  std::vector<std::string> paths;  // files or directories; none: everything
  bool full = false;               // the default: every byte
  uint64_t samples = 0;            // shards at random; 0: all
  uint64_t blocks = 0;             // audit blocks per shard; 0: all
  double confidence = 0;           // > 0: as many shards as find `damage` with it
  double damage = 0.001;
};
struct PolicyOptions {
  std::string code, block, shard, compress;  // empty: as it is
  std::string placement;                     // "spread", "home" or "home:SITE"; empty: as it is
  std::optional<uint32_t> group;             // stripes per XOR row; 0: none
};
int run_policy_show(const CommandContext&, const std::string& path);
int run_policy_set(const CommandContext&, const std::string& path, const PolicyOptions&);
struct BackgroundOptions {
  std::string action;                  // "pause", "resume", "limit"; empty: only tell
  std::string limit;                   // bytes per second and site; empty: as it is
  std::optional<uint32_t> operations;  // per second and site; 0: no limit
};
int run_background(const CommandContext&, const BackgroundOptions&);
struct FsckOptions {
  bool no = false, yes = false;  // neither: asks on a terminal
  bool deep = false;             // every shard proven
};
int run_fsck(const CommandContext&, const FsckOptions&);
struct QuarantineOptions {
  std::vector<std::string> ids;
  bool all = false, yes = false;  // drop: everything, without asking
};
int run_quarantine_list(const CommandContext&);
int run_quarantine_show(const CommandContext&, const QuarantineOptions&);
int run_quarantine_drop(const CommandContext&, const QuarantineOptions&);
int run_fold(const CommandContext&, bool wait);
int run_fold_explain(const CommandContext&, const std::string& path);
int run_audit(const CommandContext&, const AuditOptions&);
// Bundles for third-party auditors; `since` empty: a whole one.
int run_auditor_export(const CommandContext&, const std::string& output, const std::string& since);
int run_auditor_verify(const CommandContext&, const std::string& report);
int run_auditor_signer(const CommandContext&);
int run_auditor_history(const CommandContext&);
int run_site_list(const CommandContext&);
int run_site_rebuild(const CommandContext&, const std::string& name);
int run_site_add(const CommandContext&, const std::string& name);
int run_site_remove(const CommandContext&, const std::string& name);
int run_site_replace(const CommandContext&, const std::string& old_name,
                     const std::string& new_name);
int run_site_rebalance(const CommandContext&);
int run_site_drain(const CommandContext&, const std::string& name);
int run_site_activate(const CommandContext&, const std::string& name);
// Empty: datacloud-support-TIME.tar in the current directory.
int run_support_bundle(const CommandContext&, const std::string& output);
struct NodeAddOptions {
  std::string name;
  std::vector<std::string> roles;      // mount, mount-ro, admin, auditor
  std::vector<std::string> addresses;  // tls://; none: as the daemon's configuration says
  std::string valid = "24h";
  std::string directory;  // of the cloud: its mounts see only what is below
  // RADOS sites: files that may make Ceph users there, all sites' or SITE=FILE; or only print how.
  std::vector<std::string> ceph_admin;
  bool ceph_print = false;
  // Of an organisation's authority: the node's certificate, or its SHA-256. What the node needs is
  // written to `output`, for the directory `directory_there` of the node.
  std::string certificate, fingerprint, output, directory_there = "/etc/datacloud";
};
int run_node_add(const CommandContext&, const NodeAddOptions&);
int run_node_list(const CommandContext&, const std::string& name);  // empty: all
int run_node_revoke(const CommandContext&, const NodeAddOptions&);  // name and ceph_admin count
int run_node_renew(const CommandContext&);                          // this machine's certificate
int run_join(const CommandContext&, const std::string& line, const std::string& directory);
struct WatermarkOptions {
  std::string input, output;
  std::string mark;          // a PNG
  std::string key, key_out;  // files; apply takes one of them
  std::string position = "centre";
  std::string profile = "notice";
  double opacity_percent = 60;
  double size_percent = 0;  // of the picture's width; 0: as many pixels as the mark has
  bool tile = false, force = false;
};
int run_watermark_apply(const CommandContext&, const WatermarkOptions&);
int run_watermark_remove(const CommandContext&, const WatermarkOptions&);
int run_watermark_verify(const CommandContext&, const WatermarkOptions&);
int run_watermark_inspect(const CommandContext&, const WatermarkOptions&);
// `output` empty or "-": to stdout. Backup files "-": from stdin.
int run_key_backup(const CommandContext&, const std::string& output);
int run_key_verify(const CommandContext&, const std::string& backup_file);  // empty: without one
int run_key_info(const CommandContext&);
int run_key_restore(const CommandContext&, const std::string& backup_file);

}  // namespace datacloud
