// Looking at a mount point through the kernel's tables.
#include "fs/fuse/mount_point.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace datacloud {
namespace {

namespace filesystem = std::filesystem;

constexpr int kProbeMs = 5000;  // a mount that answers nothing for so long counts as living
constexpr int kDeadMountsMax = 16;

std::string contents(const filesystem::path& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<std::string> command_line(const filesystem::path& process) {
  std::vector<std::string> words;
  std::istringstream text(contents(process / "cmdline"));
  for (std::string word; std::getline(text, word, '\0');) words.push_back(word);
  if (!words.empty()) words.erase(words.begin());
  return words;
}

// Whether a process has the FUSE connection of the mount open. Older kernels do not show the
// number of the connection: there the mount point in the command line tells.
bool serves(const filesystem::path& process, const MountTableEntry& entry,
            const std::vector<std::string>& words) {
  constexpr std::string_view kKey = "fuse_connection:";
  const std::string connection = entry.device.substr(entry.device.find(':') + 1);
  std::error_code ignored;
  for (const auto& fd : filesystem::directory_iterator(process / "fd", ignored)) {
    if (filesystem::read_symlink(fd.path(), ignored) != "/dev/fuse") continue;
    const std::string info = contents(process / "fdinfo" / fd.path().filename());
    const size_t at = info.find(kKey);
    if (at == std::string::npos) return std::count(words.begin(), words.end(), entry.point) > 0;
    std::istringstream number(info.substr(at + kKey.size()));
    std::string shown;
    number >> shown;
    if (shown == connection) return true;
  }
  return false;
}

// Asks the mount in a process of its own, which may be left behind: a mount that hangs keeps it.
bool is_dead(const std::string& point) {
  int answer[2];
  if (::pipe2(answer, O_CLOEXEC) != 0) return false;
  const pid_t probe = ::fork();
  if (probe < 0) return ::close(answer[0]), ::close(answer[1]), false;
  if (probe == 0) {
    struct statx now {};
    const int done = ::statx(AT_FDCWD, point.c_str(), AT_STATX_FORCE_SYNC, STATX_MODE, &now);
    const char dead = done != 0 && (errno == ENOTCONN || errno == ECONNABORTED);
    _exit(::write(answer[1], &dead, 1) == 1 ? 0 : 1);
  }
  ::close(answer[1]);
  pollfd waiting{.fd = answer[0], .events = POLLIN, .revents = 0};
  char dead = 0;
  const bool answered = ::poll(&waiting, 1, kProbeMs) == 1 && ::read(answer[0], &dead, 1) == 1;
  ::close(answer[0]);
  if (!answered) ::kill(probe, SIGKILL);
  ::waitpid(probe, nullptr, answered ? 0 : WNOHANG);
  return answered && dead;
}

}  // namespace

result<std::string> resolve_mount_point(const std::string& path) {
  std::error_code error;
  filesystem::path absolute = filesystem::absolute(path, error);
  if (!absolute.has_filename()) absolute = absolute.parent_path();  // a slash at the end
  const auto name = absolute.filename();
  if (!name.empty() && name != "." && name != "..") {
    const auto parent = filesystem::canonical(absolute.parent_path(), error);
    if (!error && data_cloud_at((parent / name).string())) return (parent / name).string();
  }
  const auto resolved = filesystem::canonical(absolute, error);
  if (error == std::errc::no_such_file_or_directory)
    return failure(Error(error, path + ": no such directory; create it first"));
  if (error) return failure(Error(error, path + ": " + error.message()));
  return resolved.string();
}

std::optional<MountTableEntry> data_cloud_at(const std::string& point) {
  std::optional<MountTableEntry> found;
  for (auto& entry : read_mount_table())
    if (entry.point == point) found = std::move(entry);  // the table's last is the uppermost
  if (found && !found->is_data_cloud()) found.reset();
  return found;
}

std::optional<MountServer> server_of(const MountTableEntry& entry) {
  std::error_code ignored;
  for (const auto& process : filesystem::directory_iterator("/proc", ignored)) {
    const std::string name = process.path().filename().string();
    MountServer server;
    const auto [end, error] =
        std::from_chars(name.data(), name.data() + name.size(), server.process);
    if (error != std::errc{} || end != name.data() + name.size()) continue;
    if (contents(process.path() / "comm") != "mount.datacloud\n") continue;
    server.words = command_line(process.path());
    if (serves(process.path(), entry, server.words)) return server;
  }
  return std::nullopt;
}

Error already_mounted(const MountTableEntry& entry) {
  const auto server = server_of(entry);
  const std::string who =
      server ? fmt::format("mount.datacloud, process {}", server->process) : "mount.datacloud";
  return Error(std::make_error_code(std::errc::device_or_resource_busy),
               fmt::format("{}: {} is mounted there already ({}); unmount it first: umount {}",
                           entry.point, entry.source, who, entry.point));
}

result<void> clear_mount_point(const std::string& point) {
  for (int i = 0; i < kDeadMountsMax; ++i) {
    const auto entry = data_cloud_at(point);
    if (!entry) return success();
    if (!is_dead(point)) return failure(already_mounted(*entry));
    if (::umount2(point.c_str(), MNT_DETACH) != 0)
      return failure(Error::posix(errno, point +
                                             ": the process of the mount there has died; "
                                             "remove the dead mount: umount -l " +
                                             point));
    fprintf(stderr, "mount.datacloud: %s: removed the mount of %s, whose process had died\n",
            point.c_str(), entry->source.c_str());
  }
  return failure(Error::posix(EBUSY, point + ": too many dead mounts; repeat umount -l " + point));
}

MountPointLock::MountPointLock(const std::string& point)
    : fd_(::open(point.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (fd_ >= 0) (void)::flock(fd_, LOCK_EX);
}

MountPointLock::~MountPointLock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace datacloud
