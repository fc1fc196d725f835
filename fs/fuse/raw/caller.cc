// Reading a thread's signals and flags from /proc.
#include "fs/fuse/raw/caller.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <string>

namespace datacloud {
namespace {

constexpr uint64_t bit(int signal) { return uint64_t{1} << (signal - 1); }

// Signals that by default do nothing or stop the program; all others end it.
constexpr uint64_t kHarmless = bit(SIGCHLD) | bit(SIGCONT) | bit(SIGURG) | bit(SIGWINCH) |
                               bit(SIGSTOP) | bit(SIGTSTP) | bit(SIGTTIN) | bit(SIGTTOU);
constexpr uint64_t kExiting = 4;  // PF_EXITING of the kernel
// Fields of /proc/TID/stat, counted from the one after the name in brackets (state: 0).
constexpr int kFlagsField = 6, kExitCodeField = 49;

bool read_file(const std::string& path, std::string& out) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  std::array<char, 4096> buffer;
  ssize_t got = 0;
  while ((got = ::read(fd, buffer.data(), buffer.size())) > 0)
    out.append(buffer.data(), static_cast<size_t>(got));
  ::close(fd);
  return got == 0;
}

// The set of signals of a line such as "SigPnd:\t0000000000000100"; empty when it is missing.
uint64_t signals(std::string_view status, std::string_view name) {
  const size_t at = status.find(name);
  if (at == std::string_view::npos) return 0;
  const char* first = status.data() + at + name.size();
  const char* last = status.data() + status.size();
  while (first < last && (*first == '\t' || *first == ' ')) ++first;
  uint64_t value = 0;
  std::from_chars(first, last, value, 16);
  return value;
}

uint64_t field(std::string_view stat, int number) {
  size_t at = stat.rfind(')');
  if (at == std::string_view::npos) return 0;
  at += 2;
  for (; number > 0 && at < stat.size(); --number) {
    const size_t space = stat.find(' ', at);
    if (space == std::string_view::npos) return 0;
    at = space + 1;
  }
  uint64_t value = 0;
  if (at < stat.size()) std::from_chars(stat.data() + at, stat.data() + stat.size(), value);
  return value;
}

}  // namespace

bool has_fatal_signal(std::string_view status) {
  const uint64_t pending = signals(status, "\nSigPnd:") | signals(status, "\nShdPnd:");
  const uint64_t blocked = signals(status, "\nSigBlk:");
  const uint64_t handled = signals(status, "\nSigIgn:") | signals(status, "\nSigCgt:");
  // SIGKILL is in no set; the kernel also marks so what another signal or thread has doomed.
  return pending & ~(kHarmless | blocked | handled);
}

bool was_killed(std::string_view stat) {
  return (field(stat, kFlagsField) & kExiting) && (field(stat, kExitCodeField) & 0x7f) != 0;
}

bool is_dying(pid_t thread) {
  if (thread <= 0) return true;
  const std::string directory = "/proc/" + std::to_string(thread);
  std::string status, stat;
  if (!read_file(directory + "/status", status) || !read_file(directory + "/stat", stat))
    return true;
  return has_fatal_signal(status) || was_killed(stat);
}

}  // namespace datacloud
