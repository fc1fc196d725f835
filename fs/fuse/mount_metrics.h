// A mount's own metrics (common/site/metrics.h): what it does and holds, and the sites as it sees
// them.
#pragma once

#include "common/site/metrics.h"

namespace datacloud {

struct MountNumbers {
  std::string cloud, mountpoint;
  uint64_t operations = 0, dirty_bytes = 0, dirty_bytes_max = 0, cache_bytes = 0,
           cache_bytes_max = 0, degraded_reads = 0, flush_failures = 0, data_losses = 0;
};

// From any thread.
Metrics mount_metrics(const MountNumbers&, SiteSet&);

}  // namespace datacloud
