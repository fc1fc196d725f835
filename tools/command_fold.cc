// `datacloud fold`: overwritten blocks give their space back, small stripes become large ones.
#include <fmt/format.h>

#include "tools/admin_call.h"
#include "tools/daemon_link.h"
#include "tools/exit_codes.h"
#include "tools/json_text.h"
#include "tools/mounted_path.h"
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
                  fmt::format("{} blocks folded, {} stripes merged",
                              now.blocks_folded() - before.blocks_folded(),
                              now.stripes_merged() - before.stripes_merged()));
    pause.sleep();
    TRY(now, ask(link, false));
  }
  now.set_stripes_merged(now.stripes_merged() - before.stripes_merged());
  now.set_stripes_made(now.stripes_made() - before.stripes_made());
  now.set_blocks_moved(now.blocks_moved() - before.blocks_moved());
  now.set_bytes_read(now.bytes_read() - before.bytes_read());
  now.set_bytes_written(now.bytes_written() - before.bytes_written());
  now.set_stripes_folded(now.stripes_folded() - before.stripes_folded());
  now.set_blocks_folded(now.blocks_folded() - before.blocks_folded());
  now.set_bytes_between_sites(now.bytes_between_sites() - before.bytes_between_sites());
  now.set_bytes_copied_at_sites(now.bytes_copied_at_sites() - before.bytes_copied_at_sites());
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
                                {"stripes_folded", reply.stripes_folded()},
                                {"blocks_folded", reply.blocks_folded()},
                                {"bytes_between_sites", reply.bytes_between_sites()},
                                {"bytes_copied_at_sites", reply.bytes_copied_at_sites()},
                                {"stripes_blocked", reply.stripes_blocked()},
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
    fmt::print("{} blocks folded into {} stripes: {} between sites, {} copied inside sites\n",
               reply.blocks_folded(), reply.stripes_folded(),
               human_bytes(reply.bytes_between_sites()),
               human_bytes(reply.bytes_copied_at_sites()));
    if (reply.stripes_blocked() > 0) {
      fmt::print("{} stripes wait for a repair or a site\n", reply.stripes_blocked());
    }
    fmt::print("{} stripes became {}: {} blocks moved, {} read, {} written\n",
               reply.stripes_merged(), reply.stripes_made(), reply.blocks_moved(),
               human_bytes(reply.bytes_read()), human_bytes(reply.bytes_written()));
    if (!reply.last_failure().empty()) fmt::print("  {}\n", printable(reply.last_failure()));
  }
  return reply.failures() > 0 ? kExitFailed : kExitOk;
}

int run_fold_explain(const CommandContext& context, const std::string& path) {
  const auto ask_why = [&]() -> result<pb::AdminReply> {
    TRY(auto link, connect_to_daemon(context));
    pb::AdminRequest request;
    TRY(const auto inode, mounted_inode(path));
    if (inode) {
      request.mutable_fold_explain()->set_ino(*inode);
    } else {
      request.mutable_fold_explain()->set_path(path.starts_with('/') ? path : "/" + path);
    }
    return call_admin(link, request);
  };
  const auto reply = ask_why();
  if (!reply) return report_failure(reply.error());
  const auto& out = reply.value().fold_explain();
  if (context.json) {
    auto bases = Json::array();
    for (const auto& base : out.bases()) {
      auto lines = Json::array();
      for (const auto& line : base.lines()) lines.push_back(printable(line));
      bases.push_back({{"stripe", base.stripe()}, {"lines", lines}});
    }
    fmt::print("{}", json_text({{"path", path}, {"stripes", out.stripes()}, {"bases", bases}}));
    return kExitOk;
  }
  for (const auto& base : out.bases()) {
    fmt::print("stripe {}\n", base.stripe());
    for (const auto& line : base.lines()) fmt::print("  {}\n", printable(line));
  }
  if (out.bases().empty()) {
    fmt::print("nothing to fold: no block of its {} stripes is superseded\n", out.stripes());
  }
  return kExitOk;
}

}  // namespace datacloud
