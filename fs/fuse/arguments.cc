// Parsing the mount's command line.
#include "fs/fuse/arguments.h"

#include <algorithm>
#include <array>

#include "common/config/mount_options.h"
#include "common/site/metrics.h"

namespace datacloud {
namespace {

// Options the kernel understands (through libfuse).
constexpr std::array kKernelOptions = {"ro",   "rw",     "nosuid", "suid",    "nodev",
                                       "dev",  "noexec", "exec",   "noatime", "nodiratime",
                                       "sync", "async",  "dirsync"};
// Options of mount(8) that are for others.
constexpr std::array kIgnoredOptions = {
    "_netdev",  "nofail",   "noauto",     "auto",     "defaults",   "user",    "nouser",
    "users",    "nousers",  "owner",      "noowner",  "group",      "nogroup", "atime",
    "diratime", "relatime", "norelatime", "lazytime", "nolazytime", "silent",  "loud"};

template <class List>
bool is_one_of(const List& list, const std::string& option) {
  return std::find(list.begin(), list.end(), option) != list.end();
}

result<void> parse_option(const std::string& option, MountArguments& out) {
  MountConfig scratch;
  if (option.empty()) return success();
  if (option.starts_with("site=")) {
    out.site = option.substr(5);
  } else if (option.starts_with("log=")) {
    out.log_file = option.substr(4);
  } else if (option == "log_format=json" || option == "log_format=text") {
    out.log_json = option.ends_with("json");
  } else if (option.starts_with("metrics=")) {
    out.metrics = option.substr(8);
    if (auto good = check_metrics_address(out.metrics); !good)
      return failure(good.error().in("-o metrics"));
  } else if (option == "verbose") {
    out.verbose = true;
  } else if (option == "allow_other") {
    out.allow_other = true;
  } else if (option == "noallow_other") {
    out.allow_other = false;
  } else if (is_one_of(kKernelOptions, option)) {
    out.kernel.push_back(option);
  } else if (is_one_of(kIgnoredOptions, option) || option.starts_with("x-") ||
             option.starts_with("X-") || option.starts_with("comment=") ||
             option.starts_with("user=")) {
    return success();
  } else if (option == "remount") {
    return failure(Errc::invalid,
                   "-o remount: a mount cannot change its options; umount it and mount it again");
  } else {
    TRY(auto known, apply_mount_option(scratch, option));
    if (!known)
      return failure(Errc::invalid,
                     "-o " + option + ": unknown option; see mount.datacloud --help");
    out.limits.push_back(option);
  }
  return success();
}

result<void> parse_options(const std::string& list, MountArguments& out) {
  size_t at = 0;
  while (at <= list.size()) {
    const size_t comma = std::min(list.find(',', at), list.size());
    TRY(parse_option(list.substr(at, comma - at), out));
    at = comma + 1;
  }
  return success();
}

}  // namespace

result<MountArguments> parse_mount_arguments(const std::vector<std::string>& arguments) {
  MountArguments out;
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
      TRY(parse_options(arguments[i], out));
    } else if (a.starts_with("-o")) {
      TRY(parse_options(a.substr(2), out));
    } else if (a.starts_with("-") && a != "-") {
      return failure(Errc::invalid, a + ": unknown option; see mount.datacloud --help");
    } else {
      names.push_back(a);
    }
  }
  if (out.help || out.version) return out;
  if (names.size() != 2)
    return failure(Errc::invalid, "needs a configuration file and a mount point");
  out.config_file = names[0];
  out.mountpoint = names[1];
  return out;
}

std::string mount_usage() {
  return "Mounts the cloud of a configuration file; returns once mounted. Unmount with umount(8).\n"
         "Usage: mount.datacloud CONFIG MOUNTPOINT [-f] [-v] [-o OPTION,...]\n"
         "Usage: mount -t datacloud CONFIG MOUNTPOINT [-o OPTION,...]\n"
         "\n"
         "Options:\n"
         "  -f             Stay in the foreground, log to standard error\n"
         "  -v, --verbose  Log more\n"
         "  -h, --help     Print this help message and exit\n"
         "  -V, --version  Print the version and exit\n"
         "\n"
         "Options after -o:\n"
         "  site=NAME      Where this node stands: that site is read first\n"
         "  log=FILE       Log file; default /var/log/datacloud/mount.log\n"
         "  log_format=json\n"
         "                 One JSON object a line\n"
         "  metrics=ADDR   Serve Prometheus' /metrics there, such as 127.0.0.1:9556\n"
         "  verbose        Log more\n"
         "  noallow_other  Only the user who mounts may see the files\n"
         "  ro, rw, nosuid, nodev, noexec, noatime, nodiratime, sync, dirsync\n"
         "                 As for other file systems\n"
         "  _netdev, nofail, noauto, user, x-...\n"
         "                 Options of mount(8) and fstab(5), ignored here\n"
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
