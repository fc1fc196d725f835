// Taking in TCP connections, for every server that listens on TCP.
#pragma once

#include <optional>
#include <string>

#include "common/base/error.h"

namespace datacloud {

struct AcceptedPeer {
  int fd = -1;          // non-blocking; the caller's to close
  std::string host;     // "10.0.0.7"
  std::string address;  // "10.0.0.7:53412", IPv6 in brackets
};

// The next one that waits at a listening socket; nullopt: none. The failure (of descriptors or
// memory, mostly) will be there again at once: wait before the next call.
result<std::optional<AcceptedPeer>> accept_tcp(int listener);

// The socket options of both sides: no waiting for more to send, and a peer that is gone without a
// word is noticed within half a minute.
void set_tcp_options(int fd);

}  // namespace datacloud
