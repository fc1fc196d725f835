// `datacloud gc`: collect objects at the sites that nothing names any more.
#include <fmt/format.h>

#include "tools/daemon_link.h"
#include "tools/exit_codes.h"
#include "tools/json_text.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

constexpr Duration kWaitMax = std::chrono::hours(24);

result<pb::GcReply> collect(const CommandContext& context, bool wait) {
  TRY(auto link, connect_to_daemon(context, wait ? kWaitMax : Duration(seconds(60))));
  pb::Request request;
  request.mutable_gc()->set_wait(wait);
  TRY(const auto reply, link.call(std::move(request)));
  return reply.gc();
}

}  // namespace

int run_gc(const CommandContext& context, bool wait) {
  auto reply = collect(context, wait);
  if (!reply) return report_failure(reply.error());
  const pb::GcReply& gc = reply.value();
  if (context.json) {
    fmt::print("{}", json_text({{"objects_deleted", gc.objects_deleted()},
                                {"bytes_deleted", gc.bytes_deleted()},
                                {"unknown_objects", gc.unknown_objects()},
                                {"failed", gc.failed()},
                                {"problem", gc.problem()}}));
  } else {
    fmt::print("{} objects ({}) deleted, {} objects unknown\n", gc.objects_deleted(),
               human_bytes(gc.bytes_deleted()), gc.unknown_objects());
  }
  if (gc.failed() == 0) return kExitOk;
  fmt::print(stderr, "datacloud: {} objects are not deleted yet ({}); the daemon retries\n",
             gc.failed(), gc.problem());
  return kExitFailed;
}

}  // namespace datacloud
