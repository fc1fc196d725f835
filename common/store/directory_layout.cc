// Paths of a directory site and its marker.
#include "common/store/directory_layout.h"

#include <algorithm>

namespace datacloud {
namespace {

constexpr size_t kMarkerBytesMax = 4096;

bool same_file(const FileLayer::Stat& a, const FileLayer::Stat& b) {
  return a.device == b.device && a.inode == b.inode && a.size == b.size && a.mtime_ns == b.mtime_ns;
}

}  // namespace

std::string DirectoryLayout::fan_out(int i) const {
  static const char digits[] = "0123456789abcdef";
  return root_ + "/objects/" + digits[i >> 4] + digits[i & 15];
}

int DirectoryLayout::fan_out_of(const std::string& name) {
  uint32_t hash = 2166136261u;
  for (unsigned char c : name) hash = (hash ^ c) * 16777619u;
  hash ^= hash >> 16;
  return static_cast<int>((hash ^ (hash >> 8)) & 0xff);
}

std::string DirectoryLayout::object(const std::string& name) const {
  return fan_out(fan_out_of(name)) + "/" + name;
}

result<SiteMarker> read_directory_marker(FileLayer& files, const std::string& root) {
  auto marker = read_marker_file(files, DirectoryLayout(root).marker());
  if (!marker && marker.error().is(Errc::not_found)) {
    return failure(Errc::not_found, "no marker in " + root);
  }
  return marker;
}

result<SiteMarker> read_marker_file(FileLayer& files, const std::string& path) {
  auto file = files.open(path, FileLayer::Open::read);
  if (!file) {
    if (file.error().code() == std::errc::no_such_file_or_directory ||
        file.error().code() == std::errc::not_a_directory) {
      return failure(Errc::not_found, "no marker " + path);
    }
    return failure(Errc::io, file.error().message());
  }
  std::string text(kMarkerBytesMax + 1, '\0');
  auto n = file.value()->pread(0, {reinterpret_cast<uint8_t*>(text.data()), text.size()});
  if (!n) return failure(Errc::io, n.error().message());
  text.resize(n.value());
  auto marker = SiteMarker::decode(text);
  if (!marker) return failure(marker.error().in(path));
  return marker;
}

result<void> MarkerGuard::verify() {
  auto stat = files_.stat(layout_.marker());
  if (!stat) {
    return failure(Errc::away, "no marker in " + layout_.root() +
                                   ": mount or move the site's directory back there");
  }
  std::lock_guard lock(mutex_);
  if (verified_ && same_file(*verified_, stat.value())) return success();
  return read_again(stat.value());
}

result<void> MarkerGuard::read_again(const FileLayer::Stat& stat) {
  verified_.reset();
  auto marker = read_directory_marker(files_, layout_.root());
  if (!marker) return failure(Errc::away, marker.error().message());
  if (marker.value().cloud_uuid != expected_.cloud_uuid ||
      marker.value().site_id != expected_.site_id) {
    return failure(Errc::away, layout_.root() + " holds site " + marker.value().site_name +
                                   " of cloud " + marker.value().cloud_name + " (" +
                                   marker.value().cloud_uuid + "), not site " +
                                   expected_.site_name + " of " + expected_.cloud_uuid +
                                   ": correct the path in the configuration");
  }
  verified_ = stat;
  return success();
}

}  // namespace datacloud
