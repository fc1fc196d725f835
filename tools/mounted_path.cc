// Finding files on mounted clouds (mounted_path.h).
#include "tools/mounted_path.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <filesystem>

namespace datacloud {
namespace {

std::string device_of(const struct stat& st) {
  return fmt::format("{}:{}", major(st.st_dev), minor(st.st_dev));
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

std::set<std::string> datacloud_devices(const std::vector<MountTableEntry>& table) {
  std::set<std::string> devices;
  for (const auto& entry : table)
    if (entry.is_data_cloud()) devices.insert(entry.device);
  return devices;
}

result<std::optional<uint64_t>> mounted_inode(const std::string& path) {
  const auto devices = datacloud_devices(read_mount_table());
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
