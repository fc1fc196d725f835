// `datacloud watch PATH`: what all mounts change, as inotifywait(1) prints it.
#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <thread>

#include "tools/admin_call.h"
#include "tools/exit_codes.h"
#include "tools/json_text.h"
#include "tools/mounted_path.h"
#include "tools/terminal.h"
#include "tools/watched_names.h"

namespace datacloud {
namespace {

constexpr int kTimedOut = 2;  // as of inotifywait
constexpr uint32_t kPollMs = 10'000;
constexpr auto kReconnectPause = seconds(1);

result<std::vector<WatchedNames::Entry>> list_directory(const std::string& path) {
  std::vector<WatchedNames::Entry> out;
  DIR* directory = ::opendir(path.c_str());
  if (directory == nullptr) {
    if (errno == ENOENT || errno == ENOTDIR) return out;  // gone meanwhile
    return failure(Error::posix(errno, path));
  }
  errno = 0;
  while (const dirent* entry = ::readdir(directory)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") out.push_back({name, entry->d_ino, entry->d_type == DT_DIR});
    errno = 0;
  }
  const int error = errno;
  ::closedir(directory);
  if (error != 0) return failure(Error::posix(error, path));
  return out;
}

class Watch {
 public:
  Watch(const CommandContext& context, const ChangeOptions& options)
      : context_(context), options_(options), names_(list_directory, options.recursive) {}

  result<int> run() {
    TRY(connect());
    TRY(look());
    if (!options_.quiet) fmt::print(stderr, "Watches established.\n");
    const auto began = monotonic_now();
    const auto end = began + std::chrono::duration_cast<Duration>(
                                 std::chrono::duration<double>(options_.timeout_s));
    for (;;) {
      uint32_t wait = kPollMs;
      if (options_.timeout_s > 0) {
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(end - monotonic_now());
        if (left.count() <= 0) return kTimedOut;
        wait = static_cast<uint32_t>(std::min<int64_t>(left.count(), kPollMs));
      }
      TRY(const auto told, poll(wait));
      if (told.overflow()) {
        tell({"", {"Q_OVERFLOW"}, ""});
        TRY(names_.look_again());
      }
      for (const auto& event : told.events()) {
        TRY(const auto lines, names_.apply(event));
        for (const auto& line : lines) tell(line);
      }
      std::fflush(stdout);
      if (told_ > 0 && !options_.monitor) return int{kExitOk};
    }
  }

 private:
  result<void> connect() {
    TRY(link_, connect_to_daemon(context_));
    pb::AdminRequest request;
    request.mutable_watch();
    TRY(const auto reply, call_admin(link_, request));
    watcher_ = reply.watch().watcher();
    if (watcher_ != 0) return success();
    return failure(Errc::unsupported, "the daemon cannot tell changes; install this version there");
  }

  // Changes since the watcher was made are told as well; what is looked up later holds them
  // already.
  result<void> look() {
    TRY(const auto ino, mounted_inode(options_.path));
    if (!ino) {
      return failure(Errc::invalid, options_.path +
                                        ": watch needs a file or directory below a mount of the "
                                        "cloud on this machine");
    }
    struct stat st {};
    if (::stat(options_.path.c_str(), &st) != 0) return failure(Error::posix(errno, options_.path));
    if (S_ISDIR(st.st_mode)) return names_.add_directory(*ino, options_.path);
    names_.add_file(*ino, options_.path);
    return success();
  }

  // A daemon that comes back, or another one, does not know what was changed meanwhile.
  result<pb::WatchReply> poll(uint32_t wait_ms) {
    pb::AdminRequest request;
    request.mutable_watch()->set_watcher(watcher_);
    request.mutable_watch()->set_wait_ms(wait_ms);
    auto reply = call_admin(link_, request);
    if (reply) return reply.value().watch();
    if (reply.error().code() == std::errc::permission_denied) return failure(reply.error());
    const auto patience = monotonic_now() + milliseconds(wait_ms);
    for (;;) {
      auto again = connect();
      if (again) break;
      if (options_.timeout_s > 0 && monotonic_now() > patience) return failure(again.error());
      std::this_thread::sleep_for(kReconnectPause);
    }
    pb::WatchReply lost;
    lost.set_overflow(true);
    return lost;
  }

  bool wanted(const WatchLine& line) const {
    if (options_.events.empty() || line.events[0] == "Q_OVERFLOW") return true;
    return std::any_of(line.events.begin(), line.events.end(), [&](const std::string& event) {
      return std::find(options_.events.begin(), options_.events.end(), event) !=
             options_.events.end();
    });
  }

  void tell(const WatchLine& line) {
    if (!wanted(line) || (told_ > 0 && !options_.monitor)) return;
    ++told_;
    if (context_.json) {
      const Json json{{"directory", line.directory}, {"events", line.events}, {"name", line.name}};
      fmt::print("{}\n", json.dump(-1, ' ', false, Json::error_handler_t::replace));
      return;
    }
    std::string text = line.directory;
    if (!text.empty()) text += ' ';
    fmt::print("{}{}{}{}\n", text, fmt::join(line.events, ","), line.name.empty() ? "" : " ",
               line.name);
  }

  const CommandContext& context_;
  const ChangeOptions& options_;
  WatchedNames names_;
  DaemonLink link_;
  uint64_t watcher_ = 0;
  uint64_t told_ = 0;
};

}  // namespace

int run_watch(const CommandContext& context, ChangeOptions options) {
  bool moves = false;
  for (auto& event : options.events) {
    std::transform(event.begin(), event.end(), event.begin(),
                   [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    moves = moves || event == "MOVE";
  }
  if (moves) options.events.insert(options.events.end(), {"MOVED_FROM", "MOVED_TO"});
  auto done = Watch(context, options).run();
  if (!done) return report_failure(done.error());
  return done.value();
}

}  // namespace datacloud
