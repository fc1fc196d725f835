// mount.datacloud: mounts a cloud.
//
// The process forks before anything else is started; the parent waits until the child has mounted
// (or says why not) and exits, so that "mount.datacloud F M && use M" works.
#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <malloc.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "common/base/background_process.h"
#include "common/base/log.h"
#include "common/base/service_notifier.h"
#include "common/rpc/rpc.h"
#include "common/site/daemon_finder.h"
#include "fs/fuse/arguments.h"
#include "fs/fuse/mount.h"
#include "fs/fuse/mount_point.h"
#include "fs/fuse/ops.h"
#include "fs/fuse/owners.h"
#include "fs/fuse/raw/request_loop.h"
#include "fs/fuse/remount.h"

namespace datacloud {
namespace {

constexpr int kExitUsage = 1;
constexpr int kExitFailed = 32;  // mount(8)
constexpr const char* kSeeManual = "; see mount.datacloud(8) or --help";
constexpr int kSilence = 2000;  // ms; after that a mount that is not there yet says why

int fail(const std::string& what, int code = kExitFailed) {
  fprintf(stderr, "mount.datacloud: %s\n", what.c_str());
  return code;
}

// The kernel's own window, below ours (fs/read/read_ahead.h). The device comes from the mount
// table: a stat of the mount point would keep the mount busy for whoever unmounts it at once.
void set_kernel_readahead(const std::string& mountpoint) {
  const auto entry = data_cloud_at(mountpoint);
  if (!entry) return;
  std::ofstream file("/sys/class/bdi/" + entry->device + "/read_ahead_kb");
  file << kKernelReadAheadBytes / 1024;
}

// What /proc/mounts shows as the source: the same as in fstab, or `mount -a` would mount once more.
std::string source_name(const std::filesystem::path& file) {
  std::error_code ignored;
  const auto canonical = std::filesystem::canonical(file, ignored);
  return canonical.empty() ? file.string() : canonical.string();
}

// `mount -t datacloud NAME`: /etc/datacloud/NAME.toml, where `datacloud join` puts it. Not of what
// has a slash, or is a file.
std::optional<std::filesystem::path> named_cloud(const std::string& source) {
  std::error_code ignored;
  if (source.find('/') != std::string::npos || std::filesystem::exists(source, ignored))
    return std::nullopt;
  const auto file = std::filesystem::path("/etc/datacloud") / (source + ".toml");
  if (!std::filesystem::exists(file, ignored)) return std::nullopt;
  return file;
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == ',' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

std::vector<std::string> fuse_arguments(const MountArguments& arguments, const Config& config) {
  const bool by_name = named_cloud(arguments.config_file).has_value();
  std::string options = "fsname=" +
                        escaped((by_name ? arguments.config_file : source_name(config.file)) +
                                (arguments.directory.empty() ? "" : ":" + arguments.directory)) +
                        ",subtype=datacloud,default_permissions,max_read=1048576";
  if (arguments.allow_other) options += ",allow_other";
  for (const auto& option : arguments.flags.libfuse_options(::geteuid() == 0))
    options += "," + option;
  return {"mount.datacloud", "-o", options};
}

result<Config> load(const MountArguments& arguments) {
  const auto named = named_cloud(arguments.config_file);
  TRY(auto config, load_config(named ? *named : std::filesystem::absolute(arguments.config_file)));
  for (const auto& option : arguments.limits) {
    TRY(auto known, apply_mount_option(config.mount, option));
    (void)known;
  }
  return config;
}

result<Owners> load_owners(const MountArguments& arguments) {
  if (arguments.squash) return Owners::squashed_to(*arguments.squash);
  if (!arguments.uidmap.empty()) return Owners::mapped_by(arguments.uidmap);
  return Owners();
}

LogFormat log_format(const MountArguments& arguments) {
  return arguments.log_json ? LogFormat::json : LogFormat::text;
}

result<void> mount_session(fuse_session* session, const MountArguments& arguments) {
  const std::string& point = arguments.mountpoint;
  const MountPointLock lock(point);
  if (const auto other = data_cloud_at(point)) return failure(already_mounted(*other));
  if (fuse_session_mount(session, point.c_str()) != 0)
    return failure(Errc::invalid,
                   "cannot mount on " + point + "; is it a directory, and is /dev/fuse there?");
  const MountFlags& flags = arguments.flags;
  if (!flags.beyond_libfuse() ||
      ::mount("none", point.c_str(), nullptr, MS_REMOUNT | flags.value(), nullptr) == 0)
    return success();
  const int error = errno;
  fuse_session_unmount(session);
  return failure(Error::posix(
      error, point + ": cannot set the mount options: " + std::generic_category().message(error) +
                 (error == EPERM ? "; only root can" : "")));
}

// Runs the mount; `mounted` is called once the kernel has it.
template <class Mounted>
int serve(MountArguments arguments, const Config& config, const Owners& owners, Mounted mounted) {
  const auto notifier = ServiceNotifier::from_environment();
  auto mount = Mount::open(config, arguments.site, arguments.mountpoint, arguments.directory);
  if (!mount) return fail(mount.error().message());

  mount.value()->set_owners(owners);
  mount.value()->set_known_names_max(arguments.known_names_max);
  if (arguments.local_locks) mount.value()->keep_locks_local();
  if (arguments.daily_atime) mount.value()->keep_daily_atimes();
  if (mount.value()->read_only()) arguments.flags.apply("ro");
  if (arguments.flags.read_only()) mount.value()->leave_records_alone();
  if (!arguments.metrics.empty()) {
    if (auto served = mount.value()->serve_metrics(arguments.metrics); !served)
      return fail(served.error().text());
  }
  const auto words = fuse_arguments(arguments, config);
  std::vector<char*> argv;
  for (const auto& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  fuse_args args = FUSE_ARGS_INIT(static_cast<int>(argv.size()), argv.data());
  const fuse_lowlevel_ops ops = fuse_operations();
  fuse_session* session = fuse_session_new(&args, &ops, sizeof ops, mount.value().get());
  fuse_opt_free_args(&args);
  if (!session) return fail("libfuse refuses the mount options");
  if (fuse_set_signal_handlers(session) != 0) {
    fuse_session_destroy(session);
    return fail("cannot handle signals: " + std::string(strerror(errno)));
  }
  if (auto done = mount_session(session, arguments); !done) {
    fuse_session_destroy(session);
    return fail(done.error().text());
  }
  if (KernelChannel::attach<Mount, &Mount::channel>(session, fuse_session_fd(session)) != 0) {
    fuse_session_unmount(session);
    fuse_session_destroy(session);
    return fail("libfuse takes no channel of ours; is it version 3.14 or later?");
  }
  mount.value()->set_synchronous_names(arguments.flags.synchronous_directories());
  mount.value()->read_flags();
  mount.value()->start(session);
  // The answer to INIT sets the kernel's default once more.
  mount.value()->channel().when_agreed([&] { set_kernel_readahead(arguments.mountpoint); });
  mounted();
  notifier.ready("mounted on " + arguments.mountpoint);

  RequestLoop loop(session, mount.value()->channel(), config.mount.threads,
                   mount.value()->request_options());
  const int error = loop.run();
  notifier.stopping();
  if (error < 0) spdlog::error("the FUSE session ended with error {}", -error);
  fuse_session_unmount(session);
  const bool clean = mount.value()->stop();
  fuse_remove_signal_handlers(session);
  mount.value().reset();
  fuse_session_destroy(session);
  return clean && error == 0 ? 0 : kExitFailed;
}

// A daemon that is not there yet is waited for, as at boot; whoever sits at a terminal is told.
void tell_what_takes_long(int ready, const Config& config) {
  pollfd waiting{.fd = ready, .events = POLLIN};
  if (::poll(&waiting, 1, kSilence) != 0) return;
  RpcClient::Options options;
  find_daemon(config, FindsFor::mount, options);
  options.kind = pb::CLIENT_TOOL;
  options.deadline = seconds(1);
  const auto daemon = connect_rpc(std::move(options), nullptr);
  const std::string what = daemon ? "waiting for the sites" : daemon.error().message();
  fprintf(stderr, "mount.datacloud: %s; retrying for %u s\n", what.c_str(),
          (config.mount.rpc_deadline_ms + 999) / 1000);
}

int serve_in_background(const MountArguments& arguments, const Config& config,
                        const Owners& owners) {
  std::string log_file = arguments.log_file;
  if (log_file.empty()) {
    std::error_code ignored;
    std::filesystem::create_directories("/var/log/datacloud", ignored);
    log_file = "/var/log/datacloud/mount.log";
  }
  const auto code = run_in_background(
      kExitFailed, [&](int ready) { tell_what_takes_long(ready, config); },
      [&](const auto& ready) {
        start_logging("mount.datacloud", log_file, arguments.verbose, log_format(arguments));
        return serve(arguments, config, owners, ready);
      });
  return code ? code.value() : fail(code.error().text());
}

}  // namespace
}  // namespace datacloud

int main(int argc, char** argv) {
  using namespace datacloud;
  // Buffers are large and short-lived: few arenas, so that freed memory is used again.
  mallopt(M_ARENA_MAX, 4);
  mallopt(M_TRIM_THRESHOLD, 64 << 20);
  // Also as mount.fuse.datacloud: the name by which umount.fuse.datacloud finds the process.
  (void)prctl(PR_SET_NAME, "mount.datacloud");
  auto arguments = parse_mount_arguments({argv + 1, argv + argc});
  if (!arguments) return fail(arguments.error().text() + kSeeManual, kExitUsage);
  if (arguments.value().help) return printf("%s", mount_usage().c_str()), 0;
  if (arguments.value().version) return printf("mount.datacloud %s\n", DATACLOUD_VERSION), 0;
  if (arguments.value().remount) {
    const auto done = remount(arguments.value());
    if (done) return 0;
    return done.error().is(Errc::invalid) ? fail(done.error().text() + kSeeManual, kExitUsage)
                                          : fail(done.error().text());
  }
  auto config = load(arguments.value());
  if (!config) return fail(config.error().text());
  const auto owners = load_owners(arguments.value());
  if (!owners) return fail(owners.error().text());
  auto point = resolve_mount_point(arguments.value().mountpoint);
  if (!point) return fail(point.error().text());
  arguments.value().mountpoint = point.value();
  if (auto clear = clear_mount_point(point.value()); !clear) return fail(clear.error().text());
  if (!arguments.value().foreground)
    return serve_in_background(arguments.value(), config.value(), owners.value());
  start_logging("mount.datacloud", arguments.value().log_file, arguments.value().verbose,
                log_format(arguments.value()));
  return serve(arguments.value(), config.value(), owners.value(), [] {});
}
