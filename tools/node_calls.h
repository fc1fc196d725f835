// What the commands of `datacloud node` share.
#pragma once

#include <string>
#include <vector>

#include "common/config/config.h"
#include "common/proto/admin.pb.h"
#include "tools/commands.h"
#include "tools/daemon_link.h"

namespace datacloud {

result<pb::NodeReply> ask_nodes(DaemonLink&, pb::NodeRequest);
// Where a node will reach the daemons: as it was said, or as they tell (node_addresses.h).
result<std::vector<std::string>> addresses_for(const Config&, const NodeAddOptions&,
                                               const pb::HelloReply&, const pb::NodeReply& daemon);
// The data key, where nodes of these roles need it and it is at hand; else the command for a
// machine that has it.
result<KeyFile> key_for_node(const Config&, const NodeAddOptions&, const NodeRoles&);
// `node add` of a node with a certificate of the organisation.
int run_node_add_certified(const CommandContext&, const NodeAddOptions&);

}  // namespace datacloud
