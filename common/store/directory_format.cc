// Making a directory site: the layout first, durable, then the marker. A marker therefore means a
// complete layout, also after a power cut; what a cut leaves without a marker is completed by the
// next attempt. Taking a marker away goes the other way round: it is moved aside, looked at once
// more, and removed; from its first moment on nobody uses the site.
#include <set>

#include "common/store/directory_layout.h"
#include "common/store/directory_store.h"

namespace datacloud {
namespace {

std::string parent_of(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

bool is(const Error& error, std::errc code) { return error.code() == code; }

result<void> make_directory_once(FileLayer& files, const std::string& path) {
  auto made = files.make_directory(path);
  if (!made && !is(made.error(), std::errc::file_exists)) return made;
  return success();
}

// mkdir -p, every level durable in its parent.
result<void> make_root(FileLayer& files, const std::string& path) {
  const std::string parent = parent_of(path);
  auto stat = files.stat(path);
  if (!stat) {
    if (!is(stat.error(), std::errc::no_such_file_or_directory)) return failure(stat.error());
    if (parent != path) {
      TRY(make_root(files, parent));
    }
    TRY(make_directory_once(files, path));
    return files.sync_directory(parent);
  }
  if (!stat.value().is_directory) return failure(Errc::invalid, path + " is not a directory");
  return success();
}

// No fan-out directory holds anything.
result<void> check_objects(FileLayer& files, const DirectoryLayout& layout) {
  auto fan_outs = files.list(layout.objects());
  if (!fan_outs && is(fan_outs.error(), std::errc::no_such_file_or_directory)) return success();
  if (!fan_outs) return failure(fan_outs.error());
  for (const auto& name : fan_outs.value()) {
    const auto path = layout.objects() + "/" + name;
    TRY(auto left, files.list(path));
    if (!left.empty()) {
      return failure(Errc::invalid, path + " is not empty: objects of a site without marker?");
    }
  }
  return success();
}

// Only an empty directory, or one an interrupted format left, may become a site.
result<void> check_unused(FileLayer& files, const DirectoryLayout& layout) {
  std::set<std::string> expected{"lost+found", "objects"};
  TRY(auto names, files.list(layout.root()));
  for (const auto& name : names) {
    const bool temporary = name.compare(0, kTemporaryPrefix.size(), kTemporaryPrefix) == 0;
    if (layout.root() + "/" + name == layout.marker()) {
      return failure(Errc::exists, layout.root() + " is a site of a cloud already");
    }
    if (!temporary && !expected.count(name)) {
      return failure(Errc::invalid, layout.root() + " is not empty: it holds " + name);
    }
  }
  return check_objects(files, layout);
}

result<void> write_marker(FileLayer& files, const DirectoryLayout& layout,
                          const SiteMarker& marker) {
  const std::string temporary = layout.root() + "/" + std::string(kTemporaryPrefix) + "marker";
  {
    TRY(auto file, files.open(temporary, FileLayer::Open::truncate));
    TRY(file->append(as_bytes(marker.encode())));
    TRY(file->sync());
  }
  auto linked = files.link(temporary, layout.marker());
  (void)files.unlink(temporary);
  if (!linked) return linked;
  return files.sync_directory(layout.root());
}

result<void> make_layout(FileLayer& files, const DirectoryLayout& layout) {
  TRY(make_directory_once(files, layout.objects()));
  for (int i = 0; i < kFanOut; ++i) {
    TRY(make_directory_once(files, layout.fan_out(i)));
  }
  TRY(files.sync_directory(layout.objects()));
  return files.sync_directory(layout.root());
}

}  // namespace

result<void> format_directory(FileLayer& files, const std::string& root, const SiteMarker& marker) {
  if (root.empty() || root[0] != '/') {
    return failure(Errc::invalid, "the path of a site must be absolute: " + root);
  }
  const DirectoryLayout layout(root);
  auto all = [&]() -> result<void> {
    TRY(make_root(files, root));
    TRY(check_unused(files, layout));
    TRY(make_layout(files, layout));
    return write_marker(files, layout, marker);
  }();
  if (all) return success();
  const Error& error = all.error();
  if (error.code().category() == error_category()) return failure(error);
  if (is(error, std::errc::file_exists)) {
    return failure(Errc::exists, root + " is a site of a cloud already");
  }
  return failure(error.in("cannot make a site in " + root));
}

result<void> unformat_directory(FileLayer& files, const std::string& root,
                                const SiteMarker& marker) {
  const DirectoryLayout layout(root);
  const std::string aside = root + "/" + std::string(kTemporaryPrefix) + "retired";
  auto check = [&](const std::string& path) -> result<void> {
    TRY(const auto found, read_marker_file(files, path));
    if (found != marker) return failure(Errc::invalid, root + " is another's site by now");
    return check_objects(files, layout);
  };
  TRY(check(layout.marker()));
  TRY(files.rename(layout.marker(), aside));
  if (auto still = check(aside); !still) {
    (void)files.link(aside, layout.marker());
    (void)files.unlink(aside);
    return still;
  }
  TRY(files.unlink(aside));
  return files.sync_directory(root);
}

}  // namespace datacloud
