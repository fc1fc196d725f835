// Polls the daemon (repair_wait.h).
#include "tools/repair_wait.h"

#include <fmt/format.h>
#include <algorithm>

#include "tools/progress.h"

namespace datacloud {
namespace {

constexpr size_t kLinesMax = 1'000'000;

void show(Progress& progress, const pb::RepairReply& now, size_t done) {
  const uint64_t left = now.queued() - std::min(now.queued(), now.put_off());
  progress.show(done, done + left,
                now.scrubbing() ? fmt::format("looking for missing shards: {} checked, {} missing",
                                              now.shards_checked(), now.missing_found())
                                : fmt::format("{} shards repaired, {} stripes to go", done, left));
}

}  // namespace

result<RepairWait> wait_for_repairs(DaemonLink& link, uint64_t lines_after, bool quiet) {
  RepairWait wait;
  Progress progress(quiet);
  PollPause pause;
  for (;;) {
    pb::Request request;
    request.mutable_repair()->set_lines_after(lines_after);
    TRY(auto reply, link.call(std::move(request)));
    wait.last = std::move(*reply.mutable_repair());
    lines_after = wait.last.next_line();
    for (const auto& line : wait.last.lines()) {
      if (wait.lines.size() < kLinesMax) wait.lines.push_back(line);
    }
    if (wait.last.idle()) return wait;
    show(progress, wait.last, wait.lines.size());
    pause.sleep();
  }
}

}  // namespace datacloud
