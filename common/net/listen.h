// Listening TCP sockets.
#pragma once

#include <vector>

#include "common/net/address.h"

namespace datacloud {

// One for each address of the host, non-blocking; the caller closes them. Resolves names: blocks.
// invalid or the failure of the system names the address.
result<std::vector<int>> listen_tcp(const TlsAddress&);

}  // namespace datacloud
