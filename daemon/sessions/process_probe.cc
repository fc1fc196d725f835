// Processes by /proc/PID/stat (proc(5)): field 3 is the state, field 22 the start time.
#include "daemon/sessions/process_probe.h"

#include <fstream>
#include <optional>
#include <sstream>
#include <string>

namespace datacloud {
namespace {

struct ProcessStat {
  char state = '?';
  uint64_t start = 0;
};

std::optional<ProcessStat> read_stat(pid_t pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  if (!std::getline(in, line)) return std::nullopt;
  // The command name may hold blanks and parentheses: fields are counted after the last ')'.
  const size_t end = line.rfind(')');
  if (end == std::string::npos) return std::nullopt;
  std::istringstream fields(line.substr(end + 1));
  ProcessStat stat;
  fields >> stat.state;
  std::string skipped;
  for (int field = 4; field < 22; ++field) fields >> skipped;
  if (!(fields >> stat.start)) return std::nullopt;
  return stat;
}

}  // namespace

LocalProcessProbe::LocalProcessProbe() {
  std::ifstream in("/proc/sys/kernel/random/boot_id");
  std::getline(in, boot_id_);
}

void LocalProcessProbe::identify(pid_t pid, pb::Session& session) {
  session.set_boot_id(boot_id_);
  const auto stat = pid > 0 ? read_stat(pid) : std::nullopt;
  session.set_pid(stat ? static_cast<uint32_t>(pid) : 0);
  session.set_process_start(stat ? stat->start : 0);
}

bool LocalProcessProbe::gone(const pb::Session& session) {
  if (session.pid() == 0 || boot_id_.empty()) return false;
  if (session.boot_id() != boot_id_) return true;
  const auto stat = read_stat(static_cast<pid_t>(session.pid()));
  if (!stat) return true;
  return stat->start != session.process_start() || stat->state == 'Z' || stat->state == 'X';
}

}  // namespace datacloud
