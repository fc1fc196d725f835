// From a site's configuration to its back end.
#include "common/net/address.h"
#include "common/proto/records.pb.h"
#include "common/site/site_set.h"
#include "common/store/directory_store.h"
#include "common/store/memory_store.h"
#include "common/store/rados/rados_store.h"
#include "common/store/remote/remote_store.h"
#include "common/store/remote/site_credentials.h"

namespace datacloud {
namespace {

enum class BackEnd { directory, remote, memory, rados };

result<BackEnd> back_end_of(const SiteConfig& config) {
  if (config.store == "memory") return BackEnd::memory;
  if (config.store == "rados") {
    if (config.conf.is_absolute() && !config.pool.empty()) return BackEnd::rados;
    return failure(Errc::invalid,
                   "site " + config.name + ": conf must be an absolute path, and pool be set");
  }
  if (config.store == "remote") {
    if (is_tls_address(config.address)) return BackEnd::remote;
    return failure(Errc::invalid, "site " + config.name + ": address must be \"tls://HOST:PORT\"");
  }
  if (config.store != "directory") {
    return failure(Errc::invalid, "site " + config.name + ": unknown store \"" + config.store +
                                      "\"; known: directory, remote, rados");
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

result<void> named(const SiteConfig& config, result<void> done) {
  if (done) return success();
  return failure(done.error().in("site " + config.name));
}

RemoteStoreOptions remote_options(const SiteConfig& config, const SiteMarker& expected) {
  RemoteStoreOptions options;
  options.site = config.name;
  options.address = config.address;
  options.expected = expected;
  if (config.window_bytes) options.window_bytes = static_cast<size_t>(*config.window_bytes);
  options.context = [config] { return site_client_context(config); };
  return options;
}

}  // namespace

RadosOptions rados_options(const SiteConfig& config, const SiteMarker& expected) {
  RadosOptions options;
  options.site = config.name;
  options.conf = config.conf.string();
  options.user = config.user;
  options.keyring = config.keyring.string();
  options.pool = config.pool;
  options.nspace = config.nspace.empty() ? expected.cloud_uuid : config.nspace;
  options.expected = expected;
  return options;
}

std::string site_place(const SiteConfig& config, const std::string& cloud_uuid) {
  if (config.store == "remote") return config.address;
  if (config.store != "rados") return config.path.string();
  return config.pool + "/" + (config.nspace.empty() ? cloud_uuid : config.nspace);
}

SiteMarker marker_of(const pb::Cloud& cloud, const pb::SiteInfo& info) {
  SiteMarker marker;
  marker.cloud_uuid = cloud.uuid();
  marker.cloud_name = cloud.name();
  marker.site_name = info.name();
  marker.site_id = info.id();
  return marker;
}

result<std::unique_ptr<ObjectStore>> open_store(const SiteConfig& config,
                                                const SiteMarker& expected) {
  TRY(auto back_end, back_end_of(config));
  if (back_end == BackEnd::memory) return make_memory_store();
  if (back_end == BackEnd::rados) return make_rados_store(rados_options(config, expected));
  if (back_end == BackEnd::remote) return make_remote_store(remote_options(config, expected));
  DirectoryStoreOptions options;
  options.root = root_of(config);
  options.expected = expected;
  return make_directory_store(std::move(options));
}

result<void> format_store(const SiteConfig& config, const SiteMarker& marker) {
  TRY(auto back_end, back_end_of(config));
  if (back_end == BackEnd::memory) return success();
  if (back_end == BackEnd::rados) return named(config, format_rados(rados_options(config, marker)));
  if (back_end == BackEnd::remote)
    return named(config, format_remote(remote_options(config, marker), marker));
  return named(config, format_directory(*make_posix_file_layer(), root_of(config), marker));
}

result<SiteMarker> read_store_marker(const SiteConfig& config, const std::string& cloud_uuid) {
  TRY(auto back_end, back_end_of(config));
  if (back_end == BackEnd::memory) {
    return failure(Errc::not_found, "site " + config.name + ": memory stores have no marker");
  }
  SiteMarker expected;
  expected.cloud_uuid = cloud_uuid;
  auto marker = back_end == BackEnd::rados ? read_rados_marker(rados_options(config, expected))
                : back_end == BackEnd::remote
                    ? read_remote_marker(remote_options(config, expected))
                    : read_directory_marker(*make_posix_file_layer(), root_of(config));
  if (!marker) return failure(marker.error().in("site " + config.name));
  return marker;
}

}  // namespace datacloud
