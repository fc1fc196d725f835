// `datacloud leader`: the cloud's daemons, which of them leads, and handing that over.
#include <fmt/format.h>

#include "tools/admin_call.h"
#include "tools/commands.h"
#include "tools/exit_codes.h"
#include "tools/reports.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

result<pb::LeaderReply> ask(const CommandContext& context, pb::LeaderAction action,
                            const std::string& name) {
  TRY(auto link, connect_to_daemon(context));
  pb::AdminRequest request;
  request.mutable_leader()->set_action(action);
  request.mutable_leader()->set_name(name);
  TRY(auto reply, call_admin(link, request));
  return std::move(*reply.mutable_leader());
}

int tell(const CommandContext& context, const result<pb::LeaderReply>& reply,
         const std::string& done) {
  if (!reply) return report_failure(reply.error());
  if (context.json) {
    fmt::print("{}", json_text(leader_json(reply.value())));
  } else if (!done.empty()) {
    fmt::print("{}\n", done);
  } else {
    fmt::print("{}", leader_text(reply.value(), colour_wanted()));
  }
  return kExitOk;
}

}  // namespace

int run_leader_show(const CommandContext& context) {
  return tell(context, ask(context, pb::LEADER_SHOW, ""), "");
}

int run_leader_move(const CommandContext& context, const std::string& name) {
  return tell(context, ask(context, pb::LEADER_MOVE, name),
              fmt::format("the daemon {} leads from now on", printable(name)));
}

int run_leader_forget(const CommandContext& context, const std::string& name) {
  return tell(context, ask(context, pb::LEADER_FORGET, name),
              fmt::format("the daemon {} is forgotten", printable(name)));
}

}  // namespace datacloud
