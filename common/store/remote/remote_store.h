// A site that another machine serves (site_server.h): the object store seam over TLS.
//
// One connection, made when it is needed, made anew after a pause when it has broken. Requests are
// pipelined and answered in any order. While there is no connection to be had, calls fail as away
// and say why. When a connection breaks, puts, derivations and removals that were under way answer
// timed_out, as their outcome is not known; what only reads is asked once more.
//
// With a server on this machine it goes on by a local socket and a window of shared memory, where
// that can be had: TLS tells who is there, and encrypts nothing more.
//
// Bounds: kRemoteCallsMax calls accepted; kRemoteRequestsMax of them and kRemoteBytesMax of their
// data at the server at once. A server that says nothing for `silence_max` while it owes an answer
// (it says something each second) has gone.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/store/object_store.h"
#include "common/tls/tls_stream.h"

namespace datacloud {

inline constexpr size_t kRemoteCallsMax = 65536;
inline constexpr size_t kRemoteRequestsMax = 128;
inline constexpr uint64_t kRemoteBytesMax = 48u << 20;

struct RemoteStoreOptions {
  std::string site;     // whose certificate must be shown
  std::string address;  // "tls://HOST:PORT"
  SiteMarker expected;  // what must be there
  // What this machine shows; asked at each connection, so that a renewed certificate is used.
  std::function<result<std::shared_ptr<const TlsContext>>()> context;
  // Shared with a server on this machine, in place of TLS (site_local.h); 0: always TLS.
  size_t window_bytes = 32u << 20;
  Duration silence_max = seconds(6);
  Duration farewell_max = seconds(10);  // destruction waits so long for answers
};

std::unique_ptr<ObjectStore> make_remote_store(RemoteStoreOptions);

// Asks the server itself; both block. `expected` is not looked at.
// not_found: the site's storage has no marker; away: no connection.
result<SiteMarker> read_remote_marker(const RemoteStoreOptions&);
// The server formats its storage; only the daemon and administrators may ask. exists and invalid as
// format_directory.
result<void> format_remote(const RemoteStoreOptions&, const SiteMarker&);

}  // namespace datacloud
