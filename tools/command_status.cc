// `datacloud status`: health, sites, capacity and mounts, as the daemon sees them.
#include <fmt/format.h>

#include "tools/daemon_link.h"
#include "tools/exit_codes.h"
#include "tools/reports.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

result<pb::StatusReply> ask(const CommandContext& context) {
  TRY(auto link, connect_to_daemon(context));
  pb::Request request;
  request.mutable_status();
  TRY(auto reply, link.call(std::move(request)));
  return std::move(*reply.mutable_status());
}

}  // namespace

int run_status(const CommandContext& context) {
  auto status = ask(context);
  if (!status) return report_failure(status.error());
  fmt::print("{}", context.json ? json_text(status_json(status.value()))
                                : status_text(status.value(), colour_wanted()));
  return kExitOk;
}

}  // namespace datacloud
