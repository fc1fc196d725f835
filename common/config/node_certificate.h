// How this machine's programs reach the daemon, and the certificate that a node shows there.
#pragma once

#include <string>
#include <vector>

#include "common/config/config.h"
#include "common/rpc/rpc.h"

namespace datacloud {

// Fills addresses and tls from the configuration. The node's files are read at each connection, so
// that a renewed certificate is used.
void set_daemon(const Config&, RpcClient::Options&);

// What a node shows. invalid names the file that is absent, readable by others or damaged.
// `identities`: who the server is when the organisation has certified it.
result<std::shared_ptr<const TlsContext>> node_context(const NodeConfig&,
                                                       const std::vector<std::string>& identities);
// The organisation's authorities, behind those that are there; nothing where none are configured.
result<void> add_organisation(const NodeConfig&, Bytes& authorities);

// Whether two thirds of the certificate's life are over. False for a machine that is no node.
bool renewal_is_due(const NodeConfig&);
// Gets a new certificate for the node's key over the connection, and replaces the file: a crash
// leaves the old one or the new one. Connections that are open keep the old one. Returns when the
// new one ends.
result<int64_t> renew_node_certificate(const NodeConfig&, RpcClient&);

// Writes a file whole under another name, syncs it, then puts it in place with mode 0600.
result<void> replace_file(const std::filesystem::path&, std::string_view text);

}  // namespace datacloud
