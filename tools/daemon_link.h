// A command's connection to the daemon named in the configuration.
#pragma once

#include "common/config/config.h"
#include "common/rpc/rpc.h"
#include "tools/commands.h"

namespace datacloud {

struct DaemonLink {
  std::unique_ptr<RpcClient> client;
  pb::HelloReply hello;

  result<pb::Reply> call(pb::Request request) { return client->call(std::move(request)); }
};

// `deadline` is for each call; a daemon that does not listen is reported at once.
result<DaemonLink> connect_to_daemon(const CommandContext&, Duration deadline = seconds(30));

}  // namespace datacloud
