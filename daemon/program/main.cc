// datacloudd: the metadata service of a cloud as a process.
//
// In the background (the default) the process forks before anything else is started; the parent
// waits until the child serves (or says why not) and exits, so that "datacloudd && mount" works.
// systemd (Type=notify, --foreground) is told when it serves and that its one thread still turns.
// SIGTERM and SIGINT stop it cleanly; a second one at once.
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <thread>

#include "common/base/background_process.h"
#include "common/base/error.h"
#include "common/base/log.h"
#include "common/base/service_notifier.h"
#include "daemon/program/site_program.h"
#include "daemon/program/startup.h"

namespace datacloud {
namespace {

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;
constexpr const char* kUsage =
    "The daemon of a cloud: keeps its metadata, serves its mounts, cares for its shards.\n"
    "Usage: datacloudd --config FILE [--standby | --site NAME] [--foreground] [--verbose]\n"
    "\n"
    "Options:\n"
    "  --config FILE     The cloud's configuration\n"
    "  --standby         Follow the daemon that leads, and take over when it is gone\n"
    "  --site NAME       Be no daemon: serve this directory site to the cloud's nodes\n"
    "  -f, --foreground  Stay in front and log to standard error; under systemd, tell it the "
    "state\n"
    "  --verbose         Log more\n"
    "  -h, --help        Print this help message and exit\n"
    "  --version         Print the version and exit\n"
    "\n"
    "Exit status:\n"
    "  0  Stopped by SIGTERM or SIGINT; without --foreground: it serves\n"
    "  1  It could not start, or its metadata failed; the reason is on standard error\n"
    "  2  The command line is wrong\n";

struct Arguments {
  std::string config, site;
  bool foreground = false, verbose = false, standby = false;
};

int fail(const std::string& what, int code = kExitFailed) {
  fprintf(stderr, "datacloudd: %s\n", what.c_str());
  return code;
}

// The failure names the wrong word.
result<Arguments> parse_arguments(const std::vector<std::string>& words) {
  Arguments arguments;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "--foreground" || word == "-f") {
      arguments.foreground = true;
    } else if (word == "--standby") {
      arguments.standby = true;
    } else if (word == "--verbose") {
      arguments.verbose = true;
    } else if (word.starts_with("--config=")) {
      arguments.config = word.substr(strlen("--config="));
    } else if (word == "--config") {
      if (++i == words.size()) return failure(Errc::invalid, "--config needs a file after it");
      arguments.config = words[i];
    } else if (word.starts_with("--site=")) {
      arguments.site = word.substr(strlen("--site="));
      if (arguments.site.empty()) return failure(Errc::invalid, "--site needs a name after it");
    } else if (word == "--site") {
      if (++i == words.size() || words[i].empty())
        return failure(Errc::invalid, "--site needs a name after it");
      arguments.site = words[i];
    } else {
      return failure(Errc::invalid, "\"" + word + "\": unknown argument");
    }
  }
  if (arguments.config.empty()) return failure(Errc::invalid, "--config FILE is missing");
  if (arguments.standby && !arguments.site.empty())
    return failure(Errc::invalid, "--standby and --site exclude each other");
  return arguments;
}

// The process id, for people and scripts; removed at a clean end.
class PidFile {
 public:
  explicit PidFile(std::filesystem::path path) : path_(std::move(path)) {
    std::ofstream(path_) << getpid() << "\n";
  }
  ~PidFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }

 private:
  std::filesystem::path path_;
};

// Blocked in every thread, taken by this one.
class SignalThread {
 public:
  static void block() {
    const sigset_t set = signals();
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    ::signal(SIGPIPE, SIG_IGN);
  }

  SignalThread(Daemon& daemon, const ServiceNotifier& notifier)
      : thread_([this, &daemon, &notifier] { run(daemon, notifier); }) {}
  ~SignalThread() {
    pthread_kill(thread_.native_handle(), SIGUSR1);
    thread_.join();
  }

 private:
  static sigset_t signals() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1);
    return set;
  }

  void run(Daemon& daemon, const ServiceNotifier& notifier) {
    const sigset_t set = signals();
    bool asked = false;
    for (int signal = 0; sigwait(&set, &signal) == 0;) {
      if (signal == SIGUSR1) return;
      if (asked) _exit(kExitFailed);
      asked = true;
      spdlog::info("stopping (signal {})", signal);
      notifier.stopping();
      daemon.stop();
    }
  }

  std::thread thread_;
};

void raise_file_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &limit);
}

LogFormat log_format(const Config& config) {
  return config.daemon.log_format == "json" ? LogFormat::json : LogFormat::text;
}

// One daemon, from its opening to its end, and what comes after it.
template <class Ready>
result<Daemon::Next> serve_once(const Config& config, Daemon::Role role,
                                const ServiceNotifier& notifier, Ready ready) {
  StandbyHooks hooks;
  hooks.standing_by = [&](const std::string& status) {
    spdlog::info("{}", status);
    ready();
    notifier.ready(status);
  };
  hooks.alive = [&, told = MonotonicTime{}]() mutable {
    if (notifier.watchdog_interval() == Duration{}) return;
    if (monotonic_now() - told < notifier.watchdog_interval()) return;
    told = monotonic_now();
    notifier.alive();
  };
  TRY(auto daemon, Daemon::open(config, role, hooks));
  if (!daemon) return Daemon::Next::nothing;
  SignalThread signals(*daemon, notifier);
  if (notifier.watchdog_interval() > Duration{}) {
    daemon->every(notifier.watchdog_interval(), [&] { notifier.alive(); });
  }
  spdlog::info("serving the cloud {}: {}", config.cloud.name, daemon->describe());
  ready();
  notifier.ready(daemon->describe());
  daemon->run();
  if (daemon->failed()) return failure(Errc::io, daemon->failure_text());
  return daemon->next();
}

template <class Ready>
int serve(const Config& config, Ready ready) {
  const auto notifier = ServiceNotifier::from_environment();
  SignalThread::block();
  raise_file_limit();
  std::optional<PidFile> pid;  // once the first has opened: another daemon's file is not touched
  const auto once = [&] {
    if (pid) return;
    pid.emplace(config.daemon.state / "datacloudd.pid");
    ready();
  };
  auto role = config.daemon.standby ? Daemon::Role::standby : Daemon::Role::leader;
  for (;;) {
    const auto next = serve_once(config, role, notifier, once);
    // Another one was first while this one began to lead.
    if (!next && role == Daemon::Role::standby && next.error().is(Errc::stale)) {
      spdlog::warn("{}; this daemon stands by", next.error().message());
      continue;
    }
    if (!next) {
      if (pid) spdlog::critical("{}; the daemon ends", next.error().message());
      return fail(next.error().text());
    }
    if (next.value() == Daemon::Next::nothing) break;
    role = next.value() == Daemon::Next::standby ? Daemon::Role::standby : Daemon::Role::leader;
  }
  spdlog::info("stopped");
  return 0;
}

template <class Ready>
int serve_one_site(const Config& config, const std::string& site, Ready ready) {
  const auto notifier = ServiceNotifier::from_environment();
  raise_file_limit();
  if (auto done = serve_site(config, site, notifier, ready); !done) {
    spdlog::critical("{}", done.error().message());
    return fail(done.error().text());
  }
  spdlog::info("stopped");
  return 0;
}

int serve_one_site_in_background(const Config& config, const std::string& site, bool verbose) {
  if (config.node.joined())
    return fail(
        "on a machine without [daemon] state there is no place for its log: use --foreground");
  const auto code = run_in_background(kExitFailed, nullptr, [&](const auto& ready) {
    start_logging("datacloudd", (config.daemon.state / ("site-" + site + ".log")).string(), verbose,
                  log_format(config));
    return serve_one_site(config, site, ready);
  });
  return code ? code.value() : fail(code.error().text());
}

int serve_in_background(const Config& config, bool verbose) {
  const auto code = run_in_background(kExitFailed, nullptr, [&](const auto& ready) {
    start_logging("datacloudd", (config.daemon.state / "datacloudd.log").string(), verbose,
                  log_format(config));
    return serve(config, ready);
  });
  return code ? code.value() : fail(code.error().text());
}

}  // namespace
}  // namespace datacloud

int main(int argc, char** argv) {
  using namespace datacloud;
  const std::vector<std::string> words(argv + 1, argv + argc);
  for (const auto& word : words) {
    if (word == "--help" || word == "-h") return printf("%s", kUsage), 0;
    if (word == "--version") return printf("datacloudd %s\n", DATACLOUD_VERSION), 0;
  }
  const auto parsed = parse_arguments(words);
  if (!parsed) return fail(parsed.error().text() + "; see datacloudd(8) or --help", kExitUsage);
  const Arguments& arguments = parsed.value();
  auto config = load_config(std::filesystem::absolute(arguments.config));
  if (!config) return fail(config.error().text());
  config.value().daemon.standby = config.value().daemon.standby || arguments.standby;
  if (!arguments.foreground) {
    return arguments.site.empty()
               ? serve_in_background(config.value(), arguments.verbose)
               : serve_one_site_in_background(config.value(), arguments.site, arguments.verbose);
  }
  start_logging("datacloudd", "", arguments.verbose, log_format(config.value()));
  if (!arguments.site.empty()) return serve_one_site(config.value(), arguments.site, [] {});
  return serve(config.value(), [] {});
}
