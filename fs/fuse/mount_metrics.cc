// The names and units of a mount's metrics (mount_metrics.h).
#include "fs/fuse/mount_metrics.h"

namespace datacloud {

Metrics mount_metrics(const MountNumbers& numbers, SiteSet& sites) {
  using Type = MetricFamily::Type;
  Metrics out;
  auto one = [&](const char* name, const char* help, uint64_t value, Type type = Type::gauge) {
    out.push_back({name, help, type, {{{}, static_cast<double>(value)}}});
  };
  out.push_back({"datacloud_mount_info",
                 "Always 1; of which cloud, where, and the program's version",
                 Type::gauge,
                 {{{{"cloud", numbers.cloud},
                    {"mountpoint", numbers.mountpoint},
                    {"version", DATACLOUD_VERSION}},
                   1}}});
  one("datacloud_mount_operations_total", "File system operations answered", numbers.operations,
      Type::counter);
  one("datacloud_mount_dirty_bytes", "Bytes written and not yet durable", numbers.dirty_bytes);
  one("datacloud_mount_dirty_limit_bytes", "Writers wait beyond", numbers.dirty_bytes_max);
  one("datacloud_mount_cache_bytes", "Bytes in the block cache", numbers.cache_bytes);
  one("datacloud_mount_cache_limit_bytes", "Bound of the block cache", numbers.cache_bytes_max);
  one("datacloud_mount_degraded_reads_total", "Reads decoded from other shards",
      numbers.degraded_reads, Type::counter);
  one("datacloud_mount_flush_failures_total", "Attempts to make data durable that failed",
      numbers.flush_failures, Type::counter);
  one("datacloud_mount_data_losses_total",
      "Files whose unwritten data were dropped because others had changed them",
      numbers.data_losses, Type::counter);
  MetricFamily up{
      "datacloud_mount_site_up", "1 while this mount reaches the site", Type::gauge, {}};
  TrafficFamilies traffic("datacloud_mount_site");
  for (Site* site : sites.all()) {
    up.samples.push_back({{{"site", site->name()}}, site->up() ? 1.0 : 0.0});
    for (int p = 0; p < kPurposeCount; ++p) {
      const auto row = site->traffic().row(static_cast<Purpose>(p));
      if (row.operations > 0) traffic.add(site->name(), static_cast<Purpose>(p), row);
    }
  }
  out.push_back(std::move(up));
  traffic.move_to(out);
  return out;
}

}  // namespace datacloud
