// What a pool costs and has left, from its cluster's monitors.
//
// Needs the capability mon 'allow r'. The monitors know usage from ceph-mgr; while that is not
// there (a young or tiny cluster), the size of the OSDs' devices stands in for it.
#pragma once

#include <string>
#include <string_view>

#include "common/store/rados/rados_cluster.h"

namespace datacloud {

struct RadosUsage {
  uint64_t bytes_total = 0;       // of objects: what is there and what fits still
  uint64_t bytes_free = 0;        // of objects, before the pool's or its quota's end
  double raw_bytes_per_byte = 1;  // replicas, or (k+m)/k of an erasure-coded pool
};

// Blocks for up to four monitor commands.
result<RadosUsage> read_rados_usage(RadosCluster&);

// The parts, on the monitors' JSON; corrupt when it is not what it should be.
result<double> raw_bytes_per_byte(std::string_view pool_size, std::string_view profile);
// All zero when the monitors have heard nothing from ceph-mgr.
result<RadosUsage> pool_usage(std::string_view df, const std::string& pool);
result<uint64_t> device_bytes(std::string_view osd_metadata);

}  // namespace datacloud
