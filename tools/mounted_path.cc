// Finding files on mounted clouds (mounted_path.h). Format of mountinfo: proc(5).
#include "tools/mounted_path.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

namespace datacloud {
namespace {

std::string device_of(const struct stat& st) {
  return fmt::format("{}:{}", major(st.st_dev), minor(st.st_dev));
}

std::string read_mountinfo() {
  std::ifstream file("/proc/self/mountinfo");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// Does the nearest ancestor that exists lie on one of the devices?
bool below_mount(const std::filesystem::path& path, const std::set<std::string>& devices) {
  for (auto at = std::filesystem::path(path).parent_path();; at = at.parent_path()) {
    struct stat st {};
    if (::stat(at.empty() ? "." : at.c_str(), &st) == 0) return devices.count(device_of(st)) > 0;
    if (at.empty() || at == at.parent_path()) return false;
  }
}

}  // namespace

// "36 35 98:0 /root /mount/point options optional... - type source superoptions"
std::set<std::string> datacloud_devices(std::string_view mountinfo) {
  std::set<std::string> devices;
  std::istringstream lines{std::string(mountinfo)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string id, parent, device, word, type;
    words >> id >> parent >> device;
    while (words >> word && word != "-") {
    }
    if (words >> type && type == "fuse.datacloud") devices.insert(device);
  }
  return devices;
}

result<std::optional<uint64_t>> mounted_inode(const std::string& path) {
  const auto devices = datacloud_devices(read_mountinfo());
  if (devices.empty()) return std::optional<uint64_t>();
  struct stat st {};
  if (::stat(path.c_str(), &st) == 0) {
    if (devices.count(device_of(st)) == 0) return std::optional<uint64_t>();
    return std::optional<uint64_t>(st.st_ino);
  }
  const int error = errno;
  if (below_mount(path, devices)) return failure(Error::posix(error, path));
  return std::optional<uint64_t>();
}

}  // namespace datacloud
