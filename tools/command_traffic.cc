// `datacloud traffic`: what crossed to and from the sites, by site and purpose, mounts included.
#include <fmt/format.h>

#include "tools/daemon_link.h"
#include "tools/exit_codes.h"
#include "tools/reports.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

struct Traffic {
  pb::Cloud cloud;
  pb::TrafficReply reply;
};

result<Traffic> ask(const CommandContext& context, bool reset) {
  TRY(auto link, connect_to_daemon(context));
  pb::Request request;
  request.mutable_traffic()->set_reset(reset);
  TRY(const auto reply, link.call(std::move(request)));
  return Traffic{link.hello.cloud(), reply.traffic()};
}

}  // namespace

int run_traffic(const CommandContext& context, bool reset) {
  auto traffic = ask(context, reset);
  if (!traffic) return report_failure(traffic.error());
  const auto& [cloud, reply] = traffic.value();
  fmt::print("{}", context.json ? json_text(traffic_json(cloud, reply))
                                : traffic_text(cloud, reply, colour_wanted()));
  return kExitOk;
}

}  // namespace datacloud
