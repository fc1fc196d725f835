// Where things are in a directory site, and the check that it is the right one.
//
//   ROOT/datacloud-site             the marker
//   ROOT/objects/00 .. ff/NAME      objects, spread by a hash of the name
//   ROOT/objects/xx/.tmp-*          unfinished puts
//
// Directories are made by format_directory alone. Everything else works by full path at every use
// and holds no directory open, so that a site that is moved away, unmounted or replaced is noticed
// and its substitute is never written to.
#pragma once

#include <mutex>
#include <optional>
#include <string>

#include "common/base/file_layer.h"
#include "common/store/object_store.h"

namespace datacloud {

inline constexpr int kFanOut = 256;
inline constexpr std::string_view kTemporaryPrefix = ".tmp-";

class DirectoryLayout {
 public:
  explicit DirectoryLayout(std::string root) : root_(std::move(root)) {}
  const std::string& root() const { return root_; }
  std::string marker() const { return root_ + "/datacloud-site"; }
  std::string objects() const { return root_ + "/objects"; }
  std::string fan_out(int i) const;                // 0 <= i < kFanOut
  static int fan_out_of(const std::string& name);  // FNV-1a of the name, folded to 8 bits
  std::string object(const std::string& name) const;

 private:
  std::string root_;
};

// The marker in a file of any name; errors as read_directory_marker, not_found names the file.
result<SiteMarker> read_marker_file(FileLayer&, const std::string& path);

// Verifies the marker at every use for the price of one stat: contents are read again only when the
// file is another one than the one verified last.
class MarkerGuard {
 public:
  MarkerGuard(FileLayer& files, const DirectoryLayout& layout, SiteMarker expected)
      : files_(files), layout_(layout), expected_(std::move(expected)) {}
  // away: no marker, a damaged one, or another cloud's or site's.
  result<void> verify();

 private:
  result<void> read_again(const FileLayer::Stat&);

  FileLayer& files_;
  const DirectoryLayout& layout_;
  const SiteMarker expected_;
  std::mutex mutex_;
  std::optional<FileLayer::Stat> verified_;
};

}  // namespace datacloud
