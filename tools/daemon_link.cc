// Connecting a command to the daemon (daemon_link.h).
#include "tools/daemon_link.h"

#include <unistd.h>

#include <array>

#include "common/site/daemon_finder.h"

namespace datacloud {

result<DaemonLink> connect_to_daemon(const CommandContext& context, Duration deadline) {
  TRY(const auto config, load_config(context.config));
  RpcClient::Options options;
  find_daemon(config, FindsFor::tool, options);
  options.kind = pb::CLIENT_TOOL;
  options.deadline = deadline;
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) == 0) options.session.set_host(host.data());
  options.session.set_pid(static_cast<uint32_t>(::getpid()));
  options.session.set_version(DATACLOUD_VERSION);
  DaemonLink link;
  TRY(link.client, connect_rpc(std::move(options), &link.hello));
  return link;
}

}  // namespace datacloud
