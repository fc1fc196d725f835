// Where a machine that joins will reach the daemons.
#pragma once

#include <string>
#include <vector>

#include "common/config/config.h"
#include "common/proto/rpc.pb.h"

namespace datacloud {

// At most `count_max` tls:// addresses: one of each daemon that the leader knows, the leader's
// first, then further ones of each; after them those of this machine's own configuration, if it is
// a node; if that gives none, what the daemon listens on, with this machine's name for 0.0.0.0 and
// [::].
std::vector<std::string> node_addresses(
    const NodeConfig&, const google::protobuf::RepeatedPtrField<pb::DaemonPlace>&,
    const google::protobuf::RepeatedPtrField<std::string>& listen, size_t count_max);

}  // namespace datacloud
