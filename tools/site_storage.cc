// See site_storage.h.
#include "tools/site_storage.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/site/site_set.h"
#include "common/store/directory_store.h"
#include "common/store/rados/rados_store.h"

namespace datacloud {
namespace {

bool left_by_an_attempt(const SiteMarker& found, const SiteMarker& wanted, const pb::Cloud& cloud) {
  return found.cloud_uuid == cloud.uuid() && found.site_name == wanted.site_name &&
         std::none_of(cloud.sites().begin(), cloud.sites().end(), [&](const auto& site) {
           return site.id() == found.site_id && site.name() == found.site_name;
         });
}

result<void> take_marker_away(const SiteConfig& site, const SiteMarker& found) {
  if (site.store == "remote")
    return failure(Errc::unsupported,
                   "remove its file datacloud-site on the machine that serves it");
  if (site.store == "rados") return unformat_rados(rados_options(site, found));
  return unformat_directory(*make_posix_file_layer(), site.path.lexically_normal().string(), found);
}

}  // namespace

result<void> prepare_storage(const SiteConfig& site, const SiteMarker& wanted,
                             const pb::Cloud& cloud) {
  const auto found = read_store_marker(site, cloud.uuid());
  if (found && found.value() == wanted) return success();
  if (!found) return format_store(site, wanted);
  const std::string place = site_place(site, cloud.uuid());
  if (!left_by_an_attempt(found.value(), wanted, cloud)) {
    return failure(Errc::exists,
                   fmt::format("site {}: {} already holds site {} (number {}) of cloud {} ({}): "
                               "correct the configuration, or take empty storage",
                               site.name, place, found.value().site_name, found.value().site_id,
                               found.value().cloud_name, found.value().cloud_uuid));
  }
  if (auto taken = take_marker_away(site, found.value()); !taken) {
    return failure(taken.error().in(
        fmt::format("site {}: {} was prepared as number {}, and cannot be prepared again as {}",
                    site.name, place, found.value().site_id, wanted.site_id)));
  }
  return format_store(site, wanted);
}

}  // namespace datacloud
