// Parsing the mount's command line.
#include "fs/fuse/arguments.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <string_view>

#include "common/config/metrics_address.h"
#include "common/config/mount_options.h"

namespace datacloud {
namespace {

// What the kernel's table shows of every mount, and mount(8) hands back with `remount`.
constexpr std::array kTableOptions = {"user_id=", "group_id=", "max_read=", "blksize="};

bool is_table_option(const std::string& option) {
  return std::any_of(kTableOptions.begin(), kTableOptions.end(),
                     [&](const char* name) { return option.starts_with(name); });
}

// Options of ours; false for others.
result<bool> parse_own_option(const std::string& option, MountArguments& out) {
  MountConfig scratch;
  if (option.starts_with("subdir=")) {
    out.directory = option.substr(7);
    if (!out.directory.starts_with('/'))
      return failure(Errc::invalid, "-o " + option + ": needs a path of the cloud, from / on");
  } else if (option.starts_with("site=")) {
    out.site = option.substr(5);
  } else if (option.starts_with("log=")) {
    out.log_file = option.substr(4);
  } else if (option == "log_format=json" || option == "log_format=text") {
    out.log_json = option.ends_with("json");
  } else if (option.starts_with("metrics=")) {
    out.metrics = option.substr(8);
    if (auto good = check_metrics_address(out.metrics); !good)
      return failure(good.error().in("-o metrics"));
  } else if (option.starts_with("uidmap=")) {
    out.uidmap = option.substr(7);
    if (out.uidmap.empty()) return failure(Errc::invalid, "-o uidmap=: needs a file");
  } else if (option.starts_with("squash=")) {
    auto owner = parse_owner(option.substr(7));
    if (!owner) return failure(owner.error().in("-o " + option));
    out.squash = owner.value();
  } else if (option.starts_with("known_names_max=")) {
    const std::string_view value = std::string_view(option).substr(16);
    const auto [end, error] =
        std::from_chars(value.data(), value.data() + value.size(), out.known_names_max);
    if (error != std::errc() || end != value.data() + value.size() || out.known_names_max < 1000 ||
        out.known_names_max > 10'000'000)
      return failure(Errc::invalid, "-o " + option + ": needs a number from 1000 to 10000000");
  } else if (option == "nolock" || option == "lock") {
    out.local_locks = option == "nolock";
  } else if (option == "atime_daily" || option == "noatime_daily") {
    out.daily_atime = option == "atime_daily";
  } else if (option == "verbose") {
    out.verbose = true;
  } else if (option == "allow_other") {
    out.allow_other = true;
  } else if (option == "noallow_other") {
    out.allow_other = false;
  } else {
    TRY(auto known, apply_mount_option(scratch, option));
    if (!known) return false;
    out.limits.push_back(option);
  }
  out.own.push_back(option);
  return true;
}

class OptionParser {
 public:
  OptionParser(MountArguments& out, bool sloppy) : out_(out), sloppy_(sloppy) {}

  result<void> parse(const std::string& list) {
    size_t at = 0;
    while (at <= list.size()) {
      const size_t comma = std::min(list.find(',', at), list.size());
      TRY(parse_one(list.substr(at, comma - at)));
      at = comma + 1;
    }
    return success();
  }

  // Options that depend on others, once all are known.
  result<void> finish() {
    if (!out_.remount && !table_option_.empty()) return unknown(table_option_);
    if (!out_.uidmap.empty() && out_.squash)
      return failure(Errc::invalid, "-o squash: not together with -o uidmap; leave one out");
    return success();
  }

 private:
  result<void> parse_one(const std::string& option) {
    if (option.empty() || option == "default_permissions") return success();  // always so
    if (option == "remount") {
      out_.remount = true;
      return success();
    }
    if (out_.flags.apply(option)) return success();
    if (is_table_option(option)) {
      table_option_ = option;
      return success();
    }
    if (const auto why = MountFlags::refusal(option); !why.empty())
      return failure(Errc::invalid, "-o " + option + ": " + std::string(why));
    TRY(auto known, parse_own_option(option, out_));
    return known ? success() : unknown(option);
  }

  result<void> unknown(const std::string& option) const {
    if (sloppy_) return success();
    return failure(Errc::invalid, "-o " + option + ": unknown option");
  }

  MountArguments& out_;
  const bool sloppy_;
  std::string table_option_;
};

}  // namespace

result<MountArguments> parse_mount_arguments(const std::vector<std::string>& arguments) {
  MountArguments out;
  const bool sloppy = std::find(arguments.begin(), arguments.end(), "-s") != arguments.end();
  OptionParser options(out, sloppy);
  std::vector<std::string> names;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& a = arguments[i];
    if (a == "-h" || a == "--help") {
      out.help = true;
    } else if (a == "-V" || a == "--version") {
      out.version = true;
    } else if (a == "-f") {
      out.foreground = true;
    } else if (a == "-v" || a == "--verbose") {
      out.verbose = true;
    } else if (a == "-n" || a == "-s") {
      continue;  // mount(8): no mtab; sloppy options
    } else if (a == "-t" || a == "-N") {
      if (++i == arguments.size()) return failure(Errc::invalid, a + " needs a word after it");
      if (a == "-N") return failure(Errc::unsupported, "-N: mount from within the name space");
    } else if (a == "-o") {
      if (++i == arguments.size()) return failure(Errc::invalid, "-o needs options after it");
      TRY(options.parse(arguments[i]));
    } else if (a.starts_with("-o")) {
      TRY(options.parse(a.substr(2)));
    } else if (a.starts_with("-") && a != "-") {
      return failure(Errc::invalid, a + ": unknown option");
    } else {
      names.push_back(a);
    }
  }
  if (out.help || out.version) return out;
  TRY(options.finish());
  if (names.size() != 2)
    return failure(Errc::invalid, names.size() < 2 ? "needs a configuration file and a mount point"
                                                   : "\"" + names[2] +
                                                         "\": one word too many; needs a "
                                                         "configuration file and a mount point");
  const MountSource source = parse_mount_source(names[0]);
  out.config_file = source.config;
  if (!out.directory.empty() && !source.directory.empty() && out.directory != source.directory)
    return failure(Errc::invalid, "-o subdir=" + out.directory + ": the source names " +
                                      source.directory + "; leave one out");
  if (out.directory.empty()) out.directory = source.directory;
  out.mountpoint = names[1];
  return out;
}

MountSource parse_mount_source(const std::string& source) {
  std::error_code ignored;
  const size_t colon = source.find(":/");
  if (colon == std::string::npos || colon == 0 || std::filesystem::exists(source, ignored))
    return {source, ""};
  return {source.substr(0, colon), source.substr(colon + 1)};
}

std::string mount_usage() {
  return "Mounts the cloud of a configuration file; returns once mounted. Unmount with umount(8).\n"
         "Usage: mount.datacloud CONFIG MOUNTPOINT [-f] [-v] [-o OPTION,...]\n"
         "Usage: mount -t datacloud CONFIG[:/DIRECTORY] MOUNTPOINT [-o OPTION,...]\n"
         "\n"
         "Options:\n"
         "  -f             Stay in the foreground, log to standard error\n"
         "  -v, --verbose  Log more\n"
         "  -h, --help     Print this help message and exit\n"
         "  -V, --version  Print the version and exit\n"
         "\n"
         "Options after -o:\n"
         "  subdir=PATH    Mount this directory of the cloud only; as CONFIG:/DIRECTORY\n"
         "  site=NAME      Where this node stands: that site is read first\n"
         "  log=FILE       Log file; default /var/log/datacloud/mount.log\n"
         "  log_format=json\n"
         "                 One JSON object a line\n"
         "  metrics=ADDR   Serve Prometheus' /metrics there, such as 127.0.0.1:9556\n"
         "  verbose        Log more\n"
         "  uidmap=FILE    Which users and groups of the cloud are which here; the manual has the "
         "format\n"
         "  squash=UID:GID\n"
         "                 What is created here belongs to this user and group of the cloud\n"
         "  known_names_max=N\n"
         "                 Names of directories that are known without asking the daemon, with "
         "their\n"
         "                 attributes, about 1.5 KB each; default 50000, 1000 to 10000000\n"
         "  nolock         Locks (flock, fcntl) hold among the programs of this machine only\n"
         "  atime_daily    Opening a file for reading sets its access time when that is older than "
         "a day\n"
         "  noallow_other  Only the user who mounts may see the files\n"
         "  remount        New flags for a mount that exists: mount -o remount,ro MOUNTPOINT\n"
         "  ro, nosuid, nodev, noexec, nosymfollow, and their opposites\n"
         "                 As for other file systems\n"
         "  sync, dirsync  Writes, or changes of names and attributes, are durable when they "
         "return\n"
         "  noatime, relatime, strictatime, nodiratime, lazytime, and their opposites\n"
         "                 Accepted and shown; reading never changes access times (but see "
         "atime_daily)\n"
         "  defaults, auto, noauto, user, users, owner, group, _netdev, nofail, comment=..., "
         "x-...\n"
         "                 As mount(8) and fstab(5) say\n"
         "\n"
         "Limits, after -o or in the [mount] table of the configuration:\n" +
         describe_mount_options() +
         "\n"
         "Exit status, as of mount(8):\n"
         "  0   Mounted; with -f: unmounted after everything was written\n"
         "  1   The command line is wrong\n"
         "  32  The mount failed, or data could not be written at its end\n";
}

}  // namespace datacloud
