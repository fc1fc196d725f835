// Making, looking at and taking back a RADOS site, for the administrator's tool: blocking, one
// connection per call.
#include <cerrno>

#include "common/store/rados/rados_cluster.h"

namespace datacloud {
namespace {

constexpr seconds kConnectTimeout{10};
constexpr size_t kMarkerBytesMax = 4096;

struct OpenPool {
  std::shared_ptr<RadosCluster> cluster;  // before `io`: it goes last
  librados::IoCtx io;
};

result<OpenPool> open_pool(const RadosOptions& options) {
  OpenPool pool;
  TRY(pool.cluster, RadosCluster::connect(options, kConnectTimeout));
  TRY(pool.io, pool.cluster->open_pool());
  return pool;
}

result<SiteMarker> read_marker(OpenPool& pool, const RadosOptions& options) {
  librados::bufferlist bytes;
  const int rc = pool.io.read(std::string(kRadosMarkerName), bytes, kMarkerBytesMax + 1, 0);
  return decode_rados_marker(rc < 0 ? rc : 0, bytes.to_str(), options);
}

// Whether the namespace holds nothing but, perhaps, the marker.
result<bool> is_empty(OpenPool& pool, const RadosOptions& options) {
  librados::ObjectCursor at = pool.io.object_list_begin(), next;
  while (!pool.io.object_list_is_end(at)) {
    std::vector<librados::ObjectItem> items;
    const int rc = pool.io.object_list(at, pool.io.object_list_end(), 2, {}, &items, &next);
    if (rc < 0) return failure(rados_error(rc, "listing " + rados_place(options)));
    for (const auto& item : items) {
      if (item.oid != kRadosMarkerName) return false;
    }
    at = next;
  }
  return true;
}

}  // namespace

result<void> format_rados(const RadosOptions& options) {
  TRY(auto pool, open_pool(options));
  auto marker = read_marker(pool, options);
  if (marker) {
    return failure(Errc::exists, rados_place(options) + " already holds site " +
                                     marker.value().site_name + " of cloud " +
                                     marker.value().cloud_name);
  }
  if (!marker.error().is(Errc::not_found)) return failure(marker.error());
  TRY(const bool empty, is_empty(pool, options));
  if (!empty) {
    return failure(Errc::invalid, rados_place(options) +
                                      " holds objects and no marker; take another namespace, or "
                                      "remove them if they may be lost");
  }
  librados::bufferlist bytes;
  bytes.append(options.expected.encode());
  librados::ObjectWriteOperation op;
  op.create(true);
  op.write_full(bytes);
  const int rc = pool.io.operate(std::string(kRadosMarkerName), &op, librados::OPERATION_FULL_TRY);
  if (rc < 0) return failure(rados_error(rc, "writing the marker of " + rados_place(options)));
  return success();
}

result<void> unformat_rados(const RadosOptions& options) {
  TRY(auto pool, open_pool(options));
  TRY(const auto marker, read_marker(pool, options));
  const uint64_t version = pool.io.get_last_version();
  TRY(const bool empty, is_empty(pool, options));
  if (marker != options.expected || !empty) {
    return failure(Errc::invalid,
                   rados_place(options) + (empty ? " is another's site by now" : " holds objects"));
  }
  librados::ObjectWriteOperation op;
  op.assert_version(version);  // as it was read
  op.remove();
  const int rc = pool.io.operate(std::string(kRadosMarkerName), &op, librados::OPERATION_FULL_TRY);
  if (rc < 0) return failure(rados_error(rc, "removing the marker of " + rados_place(options)));
  return success();
}

result<SiteMarker> read_rados_marker(const RadosOptions& options) {
  TRY(auto pool, open_pool(options));
  return read_marker(pool, options);
}

result<RadosIdentity> identify_rados(const RadosOptions& options) {
  TRY(auto pool, open_pool(options));
  RadosIdentity identity;
  TRY(identity.cluster, pool.cluster->fsid());
  identity.pool = std::to_string(pool.io.get_id());
  return identity;
}

}  // namespace datacloud
