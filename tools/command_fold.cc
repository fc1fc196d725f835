// `datacloud fold`: overwritten blocks give their space back, small stripes become large ones.
#include <fmt/format.h>

#include "tools/daemon_link.h"
#include "tools/exit_codes.h"
#include "tools/json_text.h"
#include "tools/progress.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

result<pb::FoldReply> ask(DaemonLink& link, bool start) {
  pb::Request request;
  request.mutable_fold()->set_start(start);
  TRY(auto reply, link.call(std::move(request)));
  return std::move(*reply.mutable_fold());
}

// What was done since `before`.
result<pb::FoldReply> fold(const CommandContext& context, bool wait) {
  TRY(auto link, connect_to_daemon(context));
  TRY(const auto before, ask(link, false));
  TRY(auto now, ask(link, true));
  Progress progress(context.json);
  PollPause pause;
  while (wait && !now.idle()) {
    progress.show(0, 0,
                  fmt::format("{} stripes merged", now.stripes_merged() - before.stripes_merged()));
    pause.sleep();
    TRY(now, ask(link, false));
  }
  now.set_stripes_merged(now.stripes_merged() - before.stripes_merged());
  now.set_stripes_made(now.stripes_made() - before.stripes_made());
  now.set_blocks_moved(now.blocks_moved() - before.blocks_moved());
  now.set_bytes_read(now.bytes_read() - before.bytes_read());
  now.set_bytes_written(now.bytes_written() - before.bytes_written());
  now.set_failures(now.failures() - before.failures());
  return now;
}

}  // namespace

int run_fold(const CommandContext& context, bool wait) {
  const auto done = fold(context, wait);
  if (!done) return report_failure(done.error());
  const pb::FoldReply& reply = done.value();
  if (context.json) {
    fmt::print("{}", json_text({{"idle", reply.idle()},
                                {"stripes_merged", reply.stripes_merged()},
                                {"stripes_made", reply.stripes_made()},
                                {"blocks_moved", reply.blocks_moved()},
                                {"bytes_read", reply.bytes_read()},
                                {"bytes_written", reply.bytes_written()},
                                {"failures", reply.failures()},
                                {"last_failure", reply.last_failure()}}));
  } else if (!wait) {
    fmt::print("folding has begun; `datacloud fold --wait` returns when nothing is left\n");
  } else {
    fmt::print("{} stripes became {}: {} blocks moved, {} read, {} written\n",
               reply.stripes_merged(), reply.stripes_made(), reply.blocks_moved(),
               human_bytes(reply.bytes_read()), human_bytes(reply.bytes_written()));
    if (!reply.last_failure().empty()) fmt::print("  {}\n", printable(reply.last_failure()));
  }
  return reply.failures() > 0 ? kExitFailed : kExitOk;
}

}  // namespace datacloud
