// From a site's configuration to its back end.
#include "common/directory_store.h"
#include "common/memory_store.h"
#include "common/site_set.h"

namespace datacloud {
namespace {

enum class BackEnd { directory, memory };

result<BackEnd> back_end_of(const SiteConfig& config) {
  if (config.store == "memory") return BackEnd::memory;
  if (config.store != "directory") {
    return failure(Errc::invalid, "site " + config.name + ": unknown store \"" + config.store +
                                      "\"; known: directory");
  }
  if (!config.path.is_absolute()) {
    return failure(Errc::invalid, "site " + config.name + ": path must be absolute, not \"" +
                                      config.path.string() + "\"");
  }
  return BackEnd::directory;
}

std::string root_of(const SiteConfig& config) {
  std::string root = config.path.lexically_normal().string();
  while (root.size() > 1 && root.back() == '/') root.pop_back();
  return root;
}

}  // namespace

result<std::unique_ptr<ObjectStore>> open_store(const SiteConfig& config,
                                                const SiteMarker& expected) {
  TRY(auto back_end, back_end_of(config));
  if (back_end == BackEnd::memory) return make_memory_store();
  DirectoryStoreOptions options;
  options.root = root_of(config);
  options.expected = expected;
  return make_directory_store(std::move(options));
}

result<void> format_store(const SiteConfig& config, const SiteMarker& marker) {
  TRY(auto back_end, back_end_of(config));
  if (back_end == BackEnd::memory) return success();
  auto formatted = format_directory(*make_posix_file_layer(), root_of(config), marker);
  if (!formatted) return failure(formatted.error().in("site " + config.name));
  return success();
}

result<SiteMarker> read_store_marker(const SiteConfig& config) {
  TRY(auto back_end, back_end_of(config));
  if (back_end == BackEnd::memory) {
    return failure(Errc::not_found, "site " + config.name + ": memory stores have no marker");
  }
  auto marker = read_directory_marker(*make_posix_file_layer(), root_of(config));
  if (!marker) return failure(marker.error().in("site " + config.name));
  return marker;
}

}  // namespace datacloud
