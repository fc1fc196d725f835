// The `datacloud` command: parses the command line and runs one command. The only file that
// includes CLI11, which is slow to compile.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <string>

#include "common/base/log.h"
#include "tools/commands.h"
#include "tools/exit_codes.h"

namespace datacloud {
namespace {

using AddCommand =
    std::function<CLI::App*(CLI::App&, const char* name, const char* help, std::function<int()>)>;

void add_key_commands(CLI::App& app, const CommandContext& context, std::string& file,
                      const AddCommand& add) {
  CLI::App* key = app.add_subcommand(
      "key", "Back up, verify and restore the key files; losing them is losing all data");
  key->require_subcommand(1);
  key->fallthrough();
  add(*key, "backup", "Print both keys as text with checks, for paper", [&] {
    return run_key_backup(context, file);
  })->add_option("--output", file, "Write to this new file (mode 0600) instead of the terminal");
  add(*key, "verify", "Check that the key files are intact and belong to the cloud of the sites",
      [&] { return run_key_verify(context, file); })
      ->add_option("--backup", file, "Compare with this backup, - for standard input");
  add(*key, "info", "Where the key files are and of which cloud, without secrets",
      [&] { return run_key_info(context); });
  add(*key, "restore", "Make the key files again from a backup; never overwrites one",
      [&] { return run_key_restore(context, file); })
      ->add_option("BACKUP", file, "The backup's text, - for standard input: type it in")
      ->required();
}

void add_background_commands(CLI::App& app, const CommandContext& context,
                             BackgroundOptions& options, const AddCommand& add) {
  auto* work =
      app.add_subcommand("background", "Pause, resume or limit repair, audits and folding");
  work->require_subcommand(1);
  const auto action = [&](const char* name, const char* help) {
    return add(*work, name, help, [&context, &options, name] {
      options.action = name;
      return run_background(context, options);
    });
  };
  action("show", "Show whether it is paused, and the limits and windows in force");
  action("pause", "Pause background work until it is resumed or the daemon restarts");
  action("resume", "Continue background work");
  auto* limit =
      action("limit", "Limit bytes and operations per second and site, until the daemon restarts");
  limit->add_option("RATE", options.limit, "Bytes per second, such as 20MiB; 0: no limit");
  limit->add_option("--operations", options.operations,
                    "Requests to a site per second, such as 200; 0: no limit");
}

void add_policy_commands(CLI::App& app, const CommandContext& context, std::string& path,
                         PolicyOptions& policy, BackgroundOptions& background,
                         const AddCommand& add) {
  auto* group =
      app.add_subcommand("policy", "Code, sizes of blocks and shards, compression of new files");
  group->require_subcommand(1);
  auto* show = add(*group, "show", "What new files of a directory look like",
                   [&] { return run_policy_show(context, path); });
  auto* set = add(*group, "set", "Change it for files and directories made there from now on",
                  [&] { return run_policy_set(context, path, policy); });
  for (auto* command : {show, set}) {
    command->add_option("DIR", path, "Below a mount, or a path inside the cloud")->required();
  }
  set->add_option("--code", policy.code, "rs-K-M, basic-4-8, msr-5-3, ...");
  set->add_option("--block", policy.block, "4KiB to 1MiB");
  set->add_option(
      "--shard", policy.shard,
      "64KiB to 4MiB: most data of one shard; small ones let folds copy less at the sites");
  set->add_option("--compress", policy.compress, "zstd or none");
  set->add_option(
      "--group", policy.group,
      "Stripes per XOR row, 2 to 15: takes 1/T more space, and one lost shard is repaired "
      "inside its site; 0: none");
  set->add_option("--placement", policy.placement,
                  "spread, home (data at [daemon] site) or home:SITE");
  add_background_commands(app, context, background, add);
}

void add_audit_command(CLI::App& app, const CommandContext& context, AuditOptions& options,
                       const AddCommand& add) {
  auto* audit = add(app, "audit", "Have every site prove that it holds every byte",
                    [&] { return run_audit(context, options); });
  audit->add_option("PATH", options.paths, "Only the stripes of these files and directories");
  auto* full = audit->add_flag("--full", options.full, "Every byte of every shard (the default)");
  auto* sample = audit->add_option("--sample", options.samples, "Only this many shards, at random");
  auto* confidence = audit->add_option(
      "--confidence", options.confidence,
      "As many shards as find the share --damage of bad ones with this probability");
  audit->add_option("--damage", options.damage, "See --confidence")->capture_default_str();
  audit->add_option("--blocks", options.blocks,
                    "Only this many blocks of 4 KiB of each shard, at random");
  full->excludes(sample)->excludes(confidence);
  sample->excludes(confidence);
}

void add_auditor_commands(CLI::App& app, const CommandContext& context, std::string& file,
                          std::string& since, const AddCommand& add) {
  auto* auditor = app.add_subcommand(
      "auditor", "Third-party audits: bundles for datacloud-audit, its reports; past audits");
  auditor->require_subcommand(1);
  auditor->fallthrough();
  auto* bundle = add(*auditor, "export",
                     "Write what a third party needs to audit the sites: no data keys, no names",
                     [&] { return run_auditor_export(context, file, since); });
  bundle->add_option("--output", file, "The new file (mode 0600: it holds the audit keys)")
      ->required();
  bundle->add_option("--since", since, "Only what has changed since this bundle");
  add(*auditor, "signer", "Print the public key that signs bundles",
      [&] { return run_auditor_signer(context); });
  add(*auditor, "verify", "Check a report's signature, and which findings still stand",
      [&] { return run_auditor_verify(context, file); })
      ->add_option("REPORT", file, "What datacloud-audit has written")
      ->required();
  add(*auditor, "history", "The latest audits, site by site",
      [&] { return run_auditor_history(context); });
}

void add_site_commands(CLI::App& app, const CommandContext& context, std::string& name,
                       std::string& new_name, const AddCommand& add) {
  auto* site =
      app.add_subcommand("site", "Add, drain, rebuild, replace, activate and remove sites");
  site->require_subcommand(1);
  add(*site, "list", "The sites, their duties and whether they answer",
      [&] { return run_site_list(context); });
  const auto with_name = [&](CLI::App* command) {
    command->add_option("NAME", name, "The site's name in the configuration")->required();
  };
  with_name(add(*site, "rebuild",
                "Put back what the site lost; a site that is gone is rebuilt at the others",
                [&] { return run_site_rebuild(context, name); }));
  with_name(add(*site, "drain", "Move everything away from the site; it takes nothing new",
                [&] { return run_site_drain(context, name); }));
  with_name(add(*site, "add", "Make a new [[site]] part of the cloud; used from the next start on",
                [&] { return run_site_add(context, name); }));
  with_name(add(*site, "remove", "Take a site that is empty out of the cloud",
                [&] { return run_site_remove(context, name); }));
  auto* replace = add(*site, "replace", "Add NEW, move everything of NAME away, remove NAME",
                      [&] { return run_site_replace(context, name, new_name); });
  with_name(replace);
  replace->add_option("NEW", new_name, "The new site's name in the configuration")->required();
  add(*site, "rebalance", "Spread what is stored over all sites, as after adding one",
      [&] { return run_site_rebalance(context); });
  with_name(add(*site, "activate", "Use a drained or lost site again",
                [&] { return run_site_activate(context, name); }));
}

void add_journal_commands(CLI::App& app, const CommandContext& context,
                          std::vector<std::string>& sites, bool& accept_weaker,
                          const AddCommand& add) {
  auto* group = app.add_subcommand(
      "journal", "The metadata's log at the sites, which the loss of the daemon's machine leaves");
  group->require_subcommand(1);
  group->fallthrough();
  add(*group, "status", "What is where, and what it survives",
      [&] { return run_journal_status(context); });
  auto* enable = add(*group, "enable", "Begin a journal, for good; the daemon starts anew",
                     [&] { return run_journal_enable(context, sites, accept_weaker); });
  enable->add_option("--site", sites, "A site that holds it; may be repeated. None: all sites");
  enable->add_flag("--accept-weaker", accept_weaker,
                   "Although it survives the loss of fewer sites than files do");
  add(*group, "checkpoint", "Write all metadata to the sites now, so that entries can go",
      [&] { return run_journal_checkpoint(context); });
  add(*group, "audit", "Read all of it back from the sites, prove it, and repair what is wrong",
      [&] { return run_journal_audit(context); });
}

void add_leader_commands(CLI::App& app, const CommandContext& context, std::string& name,
                         const AddCommand& add) {
  auto* group = app.add_subcommand("leader", "The cloud's daemons, and which of them leads");
  group->require_subcommand(1);
  group->fallthrough();
  add(*group, "show", "The daemons, how far standbys are, and which contingency plan is in force",
      [&] { return run_leader_show(context); });
  const auto with_name = [&](CLI::App* command, const char* what) {
    command->add_option("NAME", name, what)->required();
  };
  with_name(add(*group, "move", "Let a standby lead, without a loss and within a second",
                [&] { return run_leader_move(context, name); }),
            "The standby, as `leader show` names it");
  with_name(add(*group, "forget", "Drop a daemon that is gone for good",
                [&] { return run_leader_forget(context, name); }),
            "The daemon, as `leader show` names it");
}

void add_feature_commands(CLI::App& app, const CommandContext& context,
                          std::vector<std::string>& names, bool& all, const AddCommand& add) {
  auto* group =
      app.add_subcommand("feature", "What the cloud uses beyond format 1, and switching it on");
  group->require_subcommand(1);
  group->fallthrough();
  add(*group, "list", "The features, those in use, and mounts that do not know one",
      [&] { return run_feature_list(context); });
  auto* enable = add(*group, "enable", "Switch features on, for good",
                     [&] { return run_feature_enable(context, names, all); });
  auto* which = enable->add_option("NAME", names, "As `list` shows them");
  enable->add_flag("--all", all, "All that the daemon knows")->excludes(which);
}

void add_tree_commands(CLI::App& app, const CommandContext& context, std::string& path,
                       const AddCommand& add) {
  auto* group = app.add_subcommand(
      "tree", "Directories with a border, counters and a df of their own: create, remove, list");
  group->require_subcommand(1);
  group->fallthrough();
  const auto with_path = [&](CLI::App* command) {
    command->add_option("DIR", path, "A directory below a mount, or a path inside the cloud")
        ->required();
  };
  with_path(add(*group, "create",
                "Make DIR a tree: rename and hard links across its border fail like those between "
                "file systems",
                [&] { return run_tree_create(context, path); }));
  with_path(add(*group, "remove", "Make the tree DIR part of the tree around it; its files stay",
                [&] { return run_tree_remove(context, path); }));
  with_path(
      add(*group, "show", "The tree that DIR is in", [&] { return run_tree_show(context, path); }));
  add(*group, "list", "The trees: id, what they hold, and their state",
      [&] { return run_tree_list(context); });
}

void add_node_commands(CLI::App& app, const CommandContext& context, NodeAddOptions& options,
                       const AddCommand& add) {
  auto* group = app.add_subcommand(
      "node", "Machines that use the cloud from afar: add, list, show, revoke, renew");
  group->require_subcommand(1);
  group->fallthrough();
  auto* invite = add(*group, "add", "Print the line by which a machine joins (`datacloud join`)",
                     [&] { return run_node_add(context, options); });
  invite->add_option("NAME", options.name, "The node's name, such as gpu07")->required();
  invite
      ->add_option("--role", options.roles,
                   "mount, mount-ro (changes nothing), admin, auditor or site; may be repeated")
      ->required();
  invite->add_option("--address", options.addresses,
                     "Where the node reaches the daemon, tls://HOST:PORT; may be repeated");
  invite->add_option("--directory", options.directory,
                     "A directory of the cloud, such as /projects/one: the node's mounts see it as "
                     "their root, and the daemon refuses what is not below it. Access control, not "
                     "secrecy: the node has the whole cloud's data key");
  const auto with_ceph_admin = [&](CLI::App* command, const char* what) {
    return command->add_option("--ceph-admin", options.ceph_admin, what);
  };
  auto* ceph_admin = with_ceph_admin(
      invite,
      "[SITE=]KEYRING of client.admin: make a Ceph user for the node at each RADOS site, "
      "which may do there what its role needs; its key travels in the line; may be repeated");
  invite
      ->add_flag("--ceph-print", options.ceph_print,
                 "Print the commands that make these users instead; their keyrings are put on the "
                 "node by hand")
      ->excludes(ceph_admin);
  auto* certificate = invite->add_option(
      "--certificate", options.certificate,
      "The node's certificate (PEM), signed by an authority of [daemon] authorities: no line is "
      "needed. Again for the same node: a further one");
  auto* fingerprint =
      invite->add_option("--fingerprint", options.fingerprint,
                         "Its SHA-256 instead, as openssl x509 -fingerprint prints it");
  certificate->excludes(fingerprint);
  invite->add_option("--output", options.output,
                     "With these: write the node's configuration, data key and authority there");
  invite
      ->add_option("--dir", options.directory_there,
                   "With --output: the directory of these files on the node")
      ->capture_default_str();
  invite->add_option("--valid", options.valid, "How long the line can be used, such as 30min")
      ->capture_default_str();
  add(*group, "list", "The nodes, their roles, and whether they are connected",
      [&] { return run_node_list(context, ""); });
  const auto with_name = [&](CLI::App* command) {
    command->add_option("NAME", options.name, "As `list` shows it")->required();
  };
  with_name(add(*group, "show", "One node, with its certificates",
                [&] { return run_node_list(context, options.name); }));
  auto* revoke = add(*group, "revoke", "Shut a node out, at once and for good",
                     [&] { return run_node_revoke(context, options); });
  with_name(revoke);
  with_ceph_admin(revoke,
                  "[SITE=]KEYRING of client.admin: remove the node's Ceph users, too; may be "
                  "repeated");
  add(*group, "renew", "Get a new certificate for this machine now; it is renewed by itself, too",
      [&] { return run_node_renew(context); });
}

void add_quarantine_commands(CLI::App& app, const CommandContext& context,
                             QuarantineOptions& options, const AddCommand& add) {
  auto* group = app.add_subcommand("quarantine",
                                   "Records that fsck has taken out or replaced, and objects "
                                   "that stay at the sites for them");
  group->require_subcommand(1);
  group->fallthrough();
  add(*group, "list",
      "List the records in quarantine: since when, why, and what is kept at the sites for them",
      [&] { return run_quarantine_list(context); });
  add(*group, "show", "Show the contents of these records",
      [&] { return run_quarantine_show(context, options); })
      ->add_option("ID", options.ids, "As `list` shows them")
      ->required();
  auto* drop = add(*group, "drop", "Drop records for good; objects kept for them are deleted",
                   [&] { return run_quarantine_drop(context, options); });
  auto* ids = drop->add_option("ID", options.ids, "As `list` shows them");
  drop->add_flag("--all", options.all, "Everything that is there now")->excludes(ids);
  drop->add_flag("--yes", options.yes, "Do not ask");
}

void add_watermark_commands(CLI::App& app, const CommandContext& context, WatermarkOptions& options,
                            const AddCommand& add) {
  auto* group = app.add_subcommand(
      "watermark", "Visible marks on TIFF and PNG pictures, which a key takes off without a loss");
  group->require_subcommand(1);
  group->fallthrough();
  const auto with_input = [&](CLI::App* command) {
    command->add_option("IN", options.input, "A TIFF, BigTIFF or PNG picture")->required();
    return command;
  };
  const auto with_output = [&](CLI::App* command) {
    command->add_option("OUT", options.output, "The new picture, of the same format")->required();
    command->add_flag("--force", options.force, "Replace OUT if it exists");
    return command;
  };
  auto* apply = with_output(with_input(add(*group, "apply", "Mark a picture visibly",
                                           [&] { return run_watermark_apply(context, options); })));
  apply->add_option("--mark", options.mark, "A PNG; where it is transparent, nothing is marked")
      ->required();
  auto* key = apply->add_option("--key", options.key, "The file of a watermark key that exists");
  apply->add_option("--key-out", options.key_out, "Make a new key in this new file (mode 0600)")
      ->excludes(key);
  apply
      ->add_option("--profile", options.profile,
                   "notice: the picture stays readable; conceal: what is marked becomes noise")
      ->check(CLI::IsMember({"notice", "conceal"}))
      ->capture_default_str();
  apply->add_option("--opacity", options.opacity_percent, "Of the mark, in percent")
      ->check(CLI::Range(1.0, 100.0))
      ->capture_default_str();
  auto* position = apply
                       ->add_option("--position", options.position,
                                    "centre, top-left, top-right, bottom-left, bottom-right or X,Y")
                       ->capture_default_str();
  apply->add_flag("--tile", options.tile, "Again and again, over the whole picture")
      ->excludes(position);
  apply
      ->add_option("--size", options.size_percent,
                   "The mark's width in percent of the picture's; 0: its own pixels")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  const auto with_key = [&](CLI::App* command) {
    command->add_option("--key", options.key, "The file of the key it was marked with")->required();
    return command;
  };
  with_key(with_output(with_input(add(*group, "remove", "Restore the original exactly",
                                      [&] { return run_watermark_remove(context, options); }))));
  with_key(with_input(add(*group, "verify", "Check that nothing of a marked picture was changed",
                          [&] { return run_watermark_verify(context, options); })));
  with_input(add(*group, "inspect", "What a marked picture says of its mark, without a key",
                 [&] { return run_watermark_inspect(context, options); }));
}

// What `create --help` says about Ceph sites.
constexpr char kRadosHelp[] =
    "A site with store = \"rados\" needs a pool and a user in its Ceph cluster, made there by\n"
    "  ceph osd pool create datacloud && ceph osd pool application enable datacloud datacloud\n"
    "  ceph auth get-or-create client.datacloud mon 'allow r' \\\n"
    "      osd 'allow rwx pool=datacloud namespace=NAMESPACE' -o ceph.client.datacloud.keyring\n"
    "with `namespace = \"NAMESPACE\"` in its [[site]]. Without one the cloud's UUID is the "
    "namespace,\n"
    "which is known after create: leave namespace=... out until then. docs/operations.md";

constexpr char kFooter[] =
    "Exit codes: 0 done, 1 failed (the reason is on stderr), 2 wrong command line.\n"
    "The configuration file is also taken from the environment variable DATACLOUD_CONFIG.";

// fsck.datacloud [-n|-y|...] CONFIG, as fsck(8) calls it.
std::vector<std::string> fsck_words(const std::vector<std::string>& words) {
  std::vector<std::string> out{"datacloud", "fsck"};
  for (size_t i = 1; i < words.size(); ++i) {
    if (!words[i].starts_with('-')) out.push_back("--config");
    out.push_back(words[i]);
  }
  return out;
}

int run(int argc, char** argv) {
  CLI::App app{"One file system over several sites: the administrator's command.", "datacloud"};
  CommandContext context{"/etc/datacloud/datacloud.toml"};
  std::string config = context.config;
  app.add_option("--config", config, "Configuration file")
      ->envname("DATACLOUD_CONFIG")
      ->capture_default_str();
  app.add_flag("--json", context.json, "Print JSON");
  app.set_version_flag("--version", std::string("datacloud ") + DATACLOUD_VERSION);
  app.footer(kFooter);
  app.require_subcommand(1);
  app.fallthrough();  // --config and --json before or after the command

  int code = kExitOk;
  auto add = [&](CLI::App& parent, const char* name, const char* help,
                 std::function<int()> action) {
    auto* sub = parent.add_subcommand(name, help);
    sub->callback([&, action] {
      context.config = config;
      code = action();
    });
    return sub;
  };
  auto command = [&](const char* name, const char* help, std::function<int()> action) {
    return add(app, name, help, std::move(action));
  };
  CreateOptions creation;
  auto* create = command("create", "Format a new cloud on the configured sites",
                         [&] { return run_create(context, creation); });
  create->add_flag("--journal", creation.journal,
                   "Replicate the metadata to the sites, so that it survives the loss of the "
                   "daemon's machine");
  create->add_flag("--accept-weaker", creation.accept_weaker,
                   "Make a journal although it survives the loss of fewer sites than files do");
  create->add_flag("--finish", creation.finish,
                   "Of a cloud that has been created: format the sites whose servers run now; with "
                   "--journal, then switch the journal on");
  create
      ->add_option(
          "--features", creation.features,
          "What the cloud uses beyond format 1: all, none (older programs can be used with "
          "it) or NAME,NAME")
      ->capture_default_str();
  create->footer(kRadosHelp);
  std::vector<std::string> feature_names;
  bool all_features = false;
  add_feature_commands(app, context, feature_names, all_features, add);
  std::vector<std::string> journal_sites;
  bool weaker_journal = false;
  add_journal_commands(app, context, journal_sites, weaker_journal, add);
  std::string daemon_name;
  add_leader_commands(app, context, daemon_name, add);
  NodeAddOptions node;
  add_node_commands(app, context, node, add);
  std::string join_line, join_directory = "/etc/datacloud";
  auto* join = command("join", "Make this machine a node of a cloud, by a line of `node add`",
                       [&] { return run_join(context, join_line, join_directory); });
  join->add_option("LINE", join_line, "What `datacloud node add` has printed; - reads it")
      ->required();
  join->add_option("--dir", join_directory, "Where configuration and keys are put")
      ->capture_default_str();
  WatchOptions watch;
  const auto add_watch = [&](CLI::App* sub) {
    sub->add_option("--interval", watch.interval_s, "Seconds between two reports")
        ->check(CLI::Range(0.1, 3600.0))
        ->capture_default_str();
    sub->add_option("--rounds", watch.rounds, "End after this many; 0: when interrupted");
  };
  auto* status = command("status", "Health, sites, capacity and mounts",
                         [&] { return run_status(context, watch); });
  status->add_flag("--watch", watch.watch, "Show it repeatedly until interrupted");
  add_watch(status);
  add_watch(command("top", "What mounts and background work are doing now",
                    [&] { return run_top(context, watch); }));
  std::string path;
  bool stripes = false;
  auto* locate = command("locate", "Where the shards of a file are",
                         [&] { return run_locate(context, path, stripes); });
  locate->add_option("PATH", path, "A file below a mount, or a path inside the cloud")->required();
  locate->add_flag("--stripes", stripes, "Each stripe, also of a file with more than twenty");
  ChangeOptions changes;
  auto* watching = command("watch", "Wait for changes of all mounts, as inotifywait(1) prints them",
                           [&] { return run_watch(context, changes); });
  watching->add_option("PATH", changes.path, "A directory or file below a mount of this machine")
      ->required();
  watching->add_flag("-m,--monitor", changes.monitor, "Go on after the first event");
  watching->add_flag("-r,--recursive", changes.recursive, "All directories below, too");
  watching->add_flag("-q,--quiet", changes.quiet, "Do not say when watching has begun");
  watching
      ->add_option(
          "-e,--event", changes.events,
          "Only these: create, delete, moved_from, moved_to, move, attrib, modify, close_write")
      ->delimiter(',')
      ->check(CLI::IsMember({"create", "delete", "moved_from", "moved_to", "move", "attrib",
                             "modify", "close_write", "close"},
                            CLI::ignore_case));
  watching->add_option("-t,--timeout", changes.timeout_s, "End after so many seconds, with code 2")
      ->check(CLI::Range(0.0, 1e9));
  watching->footer(
      "Prints DIR/ EVENTS NAME, a line each. Events of file contents come with the commits of the "
      "mount "
      "that\nwrites: some seconds later at most, or with its fsync. Q_OVERFLOW: changes were "
      "missed. "
      "docs/operations.md,\n\"Watching changes\"");
  CloneOptions clone;
  auto* cloning = command("clone", "Copy a file of a mount without its data: both share the blocks",
                          [&] { return run_clone(context, clone); });
  cloning->add_option("SOURCE", clone.source, "A file below a mount")->required();
  cloning->add_option("TARGET", clone.target, "The new file, below the same mount")->required();
  cloning->add_flag("--force", clone.force, "Replace TARGET if it exists");
  cloning->add_flag("--copy-allowed", clone.copy_allowed,
                    "Copy what cannot be shared, and tell how much that was");
  bool reset = false;
  command("traffic", "Bytes moved per site and purpose since the daemon started", [&] {
    return run_traffic(context, reset);
  })->add_flag("--reset", reset, "Start counting from zero");
  bool wait = false;
  command("gc", "Collect objects that nothing names any more", [&] {
    return run_gc(context, wait);
  })->add_flag("--wait", wait, "Return when nothing is left");
  bool no_scrub = false;
  std::string plan;
  auto* repair = command("repair", "Look for missing shards and repair everything bad",
                         [&] { return run_repair(context, wait, !no_scrub, plan); });
  repair->add_flag("--wait", wait, "Return when nothing is left that can be repaired now");
  repair->add_flag("--no-scrub", no_scrub, "Repair only what is known already; list no site");
  repair
      ->add_option("--plan", plan,
                   "How groups are repaired until the daemon's next start: exact (the fewest bytes "
                   "between sites), or for comparison row-first or column-first")
      ->check(CLI::IsMember({"exact", "row-first", "column-first"}));
  std::string explained;
  auto* fold = command(
      "fold", "Bring updates into the stripes they belong to, merge small and half-dead stripes",
      [&] {
        return explained.empty() ? run_fold(context, wait) : run_fold_explain(context, explained);
      });
  fold->add_flag("--wait", wait, "Return when nothing is left");
  fold->add_option("--explain", explained,
                   "Only say how updates of this file would be folded, at what cost");
  PolicyOptions policy;
  BackgroundOptions background;
  add_policy_commands(app, context, path, policy, background, add);
  add_tree_commands(app, context, path, add);
  RecoverOptions recover;
  auto* recovering =
      command("recover", "Rebuild the daemon's metadata from the sites after the machine was lost",
              [&] { return run_recover(context, recover); });
  recovering->add_flag("--dry-run", recover.dry_run,
                       "Change nothing: say what would come back, and check every part of it");
  recovering->add_option("--to", recover.to,
                         "Go back to this entry of the journal; later changes are given up");
  recovering->add_option(
      "--surviving", recover.surviving,
      "Take what this site has, although too few of the others answer to be sure");
  recovering->add_flag("--i-know", recover.know,
                       "For --surviving: changes that only other sites had may be lost");
  recovering->footer(
      "Needs the configuration, the service key and the sites. With --dry-run exit code 1 says "
      "that "
      "it\nwould not work now. docs/operations.md, \"Disaster recovery\"");
  FsckOptions fsck;
  bool ignored = false;
  auto* check = command("fsck", "Check the cloud's records and sites, and mend them",
                        [&] { return run_fsck(context, fsck); });
  auto* no = check->add_flag("-n", fsck.no, "Change nothing");
  check->add_flag("-y,-a,-p,--repair", fsck.yes, "Mend without asking")->excludes(no);
  check->add_flag("-f", ignored, "As fsck(8) passes it: no effect, everything is always checked");
  check->footer(
      "Exit codes, as of fsck(8): 0 clean, 1 corrected, 4 something is left, 8 could not check, 16 "
      "wrong\ncommand line. Also as fsck.datacloud CONFIG. docs/operations.md, \"fsck\"");
  check->add_flag("--deep", fsck.deep, "Have every site prove every byte as well");
  QuarantineOptions quarantine;
  add_quarantine_commands(app, context, quarantine, add);
  AuditOptions audit;
  add_audit_command(app, context, audit, add);
  std::string auditor_file, auditor_since;
  add_auditor_commands(app, context, auditor_file, auditor_since, add);
  std::string site_name, new_site_name;
  add_site_commands(app, context, site_name, new_site_name, add);
  std::string bundle;
  command("support-bundle", "Collect what support needs to see, without secrets", [&] {
    return run_support_bundle(context, bundle);
  })->add_option("--output", bundle, "The tar file to make");
  WatermarkOptions watermark;
  add_watermark_commands(app, context, watermark, add);
  std::string key_backup;
  add_key_commands(app, context, key_backup, add);

  app.failure_message([](const CLI::App* failed, const CLI::Error& error) {
    const auto rest = failed->remaining(true);
    const bool no_command = error.get_name() == "RequiredError" && !rest.empty();
    return "datacloud: " + (no_command ? "unknown command: " + rest.front() : error.what()) +
           "; see datacloud(1) or --help\n";
  });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  return code;
}

}  // namespace
}  // namespace datacloud

int main(int argc, char** argv) {
  spdlog::set_level(spdlog::level::off);  // failures are told once, by the command
  std::vector<std::string> words(argv, argv + argc);
  const bool as_fsck = words[0].ends_with("fsck.datacloud");
  if (as_fsck) words = datacloud::fsck_words(words);
  std::vector<char*> pointers;
  for (auto& word : words) pointers.push_back(word.data());
  const int code = datacloud::run(static_cast<int>(pointers.size()), pointers.data());
  const bool is_fsck = std::find(words.begin(), words.end(), "fsck") != words.end();
  return is_fsck && code == datacloud::kExitUsage ? int{datacloud::kFsckUsage} : code;
}
