// Connecting to a cluster, and the words for what can go wrong (rados_cluster.h).
#include "common/store/rados/rados_cluster.h"

#include <cerrno>
#include <system_error>

#include "common/base/out_of_space.h"

namespace datacloud {
namespace {

// librados would hold back callers when many calls are in flight; the store bounds them itself and
// never blocks. Our own errors are told once, by us: librados prints nothing. An OSD that was
// killed has a new address once it is back: a silent one is looked up after 2 s, not after 10
// to 15.
constexpr std::pair<const char*, const char*> kSettings[] = {
    {"rados_mon_op_timeout", "10"},      {"objecter_inflight_ops", "0"},
    {"objecter_inflight_op_bytes", "0"}, {"objecter_timeout", "2"},
    {"objecter_tick_interval", "1"},     {"log_to_stderr", "false"},
    {"err_to_stderr", "false"},
};

// The weight of background requests beside 63 of all others (osd_op_queue wpq, Ceph's default,
// shares an OSD by these weights; mclock does not look at them).
constexpr const char* kBackgroundPriority = "10";

std::string errno_text(int rc) { return std::generic_category().message(-rc); }

std::string refused(const RadosOptions& options) {
  return options.user + " may not use it; give it what it needs: " +
         rados_auth_command(options.user, options.pool, options.nspace, "caps") +
         " (with what it has for others)";
}

}  // namespace

std::string rados_auth_command(const std::string& user, const std::string& pool,
                               const std::string& nspace, const std::string& verb) {
  return "ceph auth " + verb + " " + user +
         " mon 'allow r' osd 'allow rwx pool=" + (pool.empty() ? "POOL" : pool) +
         " namespace=" + (nspace.empty() ? "NAMESPACE" : nspace) + "'";
}

std::string rados_place(const RadosOptions& options) { return options.pool + "/" + options.nspace; }

bool rados_connection_lost(int rc) { return rc == -ESHUTDOWN || rc == -ENOTCONN; }

Error rados_error(int rc, const std::string& context) {
  const std::string text = context + ": " + errno_text(rc);
  switch (-rc) {
    case ENOENT:
      return Error(Errc::not_found, text);
    case EEXIST:
      return Error(Errc::exists, text);
    case ENOSPC:
      return Error(Errc::no_space, text + "; the cluster or the pool is full");
    case EDQUOT:
      return quota_error(text + "; the pool's quota is used up");
    case ETIMEDOUT:
    case ECANCELED:
      return Error(Errc::timed_out, text);
    case EPERM:
    case EACCES:
      return Error(Errc::away, text + "; the user lacks capabilities for pool and namespace");
    case ESHUTDOWN:
    case ENOTCONN:
      return Error(Errc::away, text + "; connecting again");
    case EOPNOTSUPP:
      return Error(Errc::unsupported, text);
    case EINVAL:
    case EMSGSIZE:
    case EFBIG:
      return Error(Errc::invalid, text);
    default:
      return Error(Errc::io, text);
  }
}

result<std::shared_ptr<RadosCluster>> RadosCluster::connect(const RadosOptions& options,
                                                            seconds timeout) {
  std::shared_ptr<RadosCluster> cluster(new RadosCluster(options));
  TRY(cluster->start(timeout));
  return cluster;
}

result<void> RadosCluster::start(seconds timeout) {
  const std::string who = options_.user + " with " + options_.conf;
  if (int rc = rados_.init2(options_.user.c_str(), "ceph", 0); rc < 0) {
    return failure(Errc::away, "cannot start librados for " + who + ": " + errno_text(rc));
  }
  if (int rc = rados_.conf_read_file(options_.conf.c_str()); rc < 0) {
    return failure(Errc::away, "cannot read the Ceph configuration " + options_.conf + ": " +
                                   errno_text(rc) + "; copy it from the cluster, or correct conf");
  }
  const auto set = [this](const char* name, const std::string& value) {
    return rados_.conf_set(name, value.c_str());
  };
  for (const auto& [name, value] : kSettings) set(name, value);
  set("client_mount_timeout", std::to_string(timeout.count()));
  set("rados_osd_op_timeout",
      std::to_string(std::chrono::duration_cast<seconds>(kRadosCallTimeout).count()));
  if (!options_.keyring.empty()) set("keyring", options_.keyring);
  if (options_.background) set("osd_client_op_priority", kBackgroundPriority);
  const int rc = rados_.connect();
  connected_ = rc == 0;
  if (connected_) return success();
  if (rc == -ETIMEDOUT) {
    return failure(Errc::away, "no monitor of the cluster of " + options_.conf +
                                   " has answered; start the cluster, or repair the network");
  }
  if (rc == -ENOENT || rc == -EPERM || rc == -EACCES || rc == -EINVAL) {
    return failure(Errc::away,
                   "the cluster of " + options_.conf + " does not know " + options_.user +
                       " by the key in " +
                       (options_.keyring.empty() ? "its keyring" : options_.keyring) + " (" +
                       errno_text(rc) + "); make user and keyring: " +
                       rados_auth_command(options_.user, options_.pool, options_.nspace));
  }
  return failure(Errc::away, "cannot connect as " + who + ": " + errno_text(rc));
}

RadosCluster::~RadosCluster() {
  if (connected_) rados_.shutdown();
}

result<librados::IoCtx> RadosCluster::open_pool() {
  librados::IoCtx io;
  const int rc = rados_.ioctx_create(options_.pool.c_str(), io);
  if (rc == -ENOENT) {
    return failure(Errc::away, "the cluster of " + options_.conf + " has no pool " + options_.pool +
                                   "; it is never made by us: ceph osd pool create " +
                                   options_.pool);
  }
  if (rc < 0) {
    return failure(Errc::away, "cannot open pool " + options_.pool + " of the cluster of " +
                                   options_.conf + ": " + errno_text(rc));
  }
  io.set_namespace(options_.nspace);
  return io;
}

result<std::string> RadosCluster::fsid() {
  std::string fsid;
  if (int rc = rados_.cluster_fsid(&fsid); rc < 0) {
    return failure(rados_error(rc, "the id of the cluster of " + options_.conf));
  }
  return fsid;
}

result<std::string> RadosCluster::command(const std::string& json) {
  librados::bufferlist in, out;
  std::string status;
  if (int rc = rados_.mon_command(json, in, &out, &status); rc < 0) {
    return failure(rados_error(rc, "monitor command " + json + " (" + status.substr(0, 200) + ")"));
  }
  return out.to_str();
}

result<SiteMarker> decode_rados_marker(int rc, std::string_view bytes,
                                       const RadosOptions& options) {
  const std::string where = rados_place(options);
  if (rc == -EPERM || rc == -EACCES) return failure(Errc::away, where + ": " + refused(options));
  if (rc == -ENOENT) {
    return failure(Errc::not_found, where + " has no marker " + std::string(kRadosMarkerName));
  }
  if (rc < 0) return failure(rados_error(rc, "the marker of " + where));
  auto marker = SiteMarker::decode(bytes);
  if (!marker) return failure(marker.error().in(where));
  return marker;
}

result<void> match_rados_marker(const result<SiteMarker>& found, const RadosOptions& options) {
  if (found) {
    if (found.value() == options.expected) return success();
    const SiteMarker& other = found.value();
    return failure(Errc::away, rados_place(options) + " belongs to cloud " + other.cloud_name +
                                   " (" + other.cloud_uuid + ") as site " + other.site_name +
                                   "; correct pool or namespace in the configuration");
  }
  const Error& error = found.error();
  if (error.is(Errc::timed_out) || error.is(Errc::away)) return failure(error);
  if (error.is(Errc::not_found)) {
    return failure(Errc::away, error.text() +
                                   ": the pool was emptied, or it is another one; nothing will be "
                                   "put there");
  }
  return failure(Errc::away, error.message());
}

}  // namespace datacloud
