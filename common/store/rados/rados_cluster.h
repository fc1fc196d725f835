// One connection to a Ceph cluster and the pool in it: the blocking part of librados.
//
// Every text says what to do. Thread safety: all methods from any thread; every call may block
// for as long as the timeouts given to librados, so never from a callback. Must not be destroyed
// on a thread of librados (RadosSession sees to that).
#pragma once

#include <memory>
#include <rados/librados.hpp>
#include <string>
#include <string_view>

#include "common/store/rados/rados_store.h"

namespace datacloud {

inline constexpr std::string_view kRadosMarkerName = "datacloud-site";

// A failure of librados (a negative errno) in the words of the object store seam; `context` names
// what was tried.
Error rados_error(int rc, const std::string& context);
// The connection is of no more use: shut down or blocklisted.
bool rados_connection_lost(int rc);

class RadosCluster {
 public:
  // Waits for monitors and authentication. Failures are away.
  static result<std::shared_ptr<RadosCluster>> connect(const RadosOptions&, seconds timeout);
  ~RadosCluster();

  // The pool, with the namespace set. away: there is no such pool.
  result<librados::IoCtx> open_pool();
  result<std::string> fsid();
  // A monitor's answer to a JSON command.
  result<std::string> command(const std::string& json);
  const RadosOptions& options() const { return options_; }

 private:
  explicit RadosCluster(const RadosOptions& options) : options_(options) {}
  result<void> start(seconds timeout);

  const RadosOptions options_;
  librados::Rados rados_;
  bool connected_ = false;
};

// The marker's bytes as read from `io`, decoded. not_found, away, timed_out or corrupt.
result<SiteMarker> decode_rados_marker(int rc, std::string_view bytes, const RadosOptions&);
// away unless the marker is the expected one.
result<void> match_rados_marker(const result<SiteMarker>& found, const RadosOptions&);

// "pool/namespace", as location() begins.
std::string rados_place(const RadosOptions&);

}  // namespace datacloud
